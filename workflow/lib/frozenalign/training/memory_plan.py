"""How training rows are held: all in memory where they fit, else streamed, as many at a time as there is room for."""

import functools
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from frozenalign.configuration.experiments import Experiment, TrainingSettings
from frozenalign.configuration.held_weights import COPIES_OF_BUFFERS, COPIES_OF_WEIGHTS
from frozenalign.data.batches import BlockOrder
from frozenalign.data.pairs import PairFiles, ResidentPairs
from frozenalign.data.shared_rows import bytes_to_hold
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError
from frozenalign.system.memory_left import gigabytes, memory_left
from frozenalign.system.products import CPU_TILE
from frozenalign.system.shared_memory import can_share
from frozenalign.training.data import TrainingData, held_format, load_training_data

logger = logging.getLogger(__name__)
SHARED_MEMORY = Path("/dev/shm")
# Float32 copies of a batch with its gradients, and of the outputs of its layers.
COPIES_OF_ROWS, COPIES_OF_OUTPUTS = 4, 6
# A queue, and its random vectors before they are of length one.
COPIES_OF_QUEUES = 2
# Row numbers and their order, for each pair.
INDEX_BYTES = 48
# Chunks that are being read, tiles of losses and scores, libraries' own buffers.
FURTHER_BYTES = 96 << 20
# Another process may take some of what is left.
SHARE_OF_REST = 0.9
LARGEST_BLOCK, FEWEST_BLOCKS = 128, 64
GROUPS_HELD = 2
# Of the threads of a CPU, which compute, one in so many reads.
THREADS_A_READER = 4


@dataclass(frozen=True)
class Demand:
    """What a training takes: its pairs, and the steps of each of its processes.

    settings: with the largest batches. steps: bytes of the steps of one process beside the training rows. handed_over:
    whether one process reads the rows and hands them to the others. precision: what `precision:` says.
    """

    train: PairFiles
    val: PairFiles
    settings: TrainingSettings
    compute: torch.dtype
    steps: int
    processes: int = 1
    handed_over: bool = False
    precision: str = "auto"

    @classmethod
    def of(
        cls, experiment: Experiment, train: PairFiles, val: PairFiles, compute: torch.dtype, precision: str = "auto"
    ) -> "Demand":
        """Return what one process takes, estimated from shapes."""
        widths = train.image_file.width, train.texts.width
        weights, buffers, outputs = _sizes(tuple(experiment.model.items()), *widths)
        batch = experiment.training.batch_size
        projected = (len(val.split.image_rows) + len(val.split.text_rows)) * experiment.model["output_dim"]
        floats = COPIES_OF_WEIGHTS * weights + COPIES_OF_BUFFERS * buffers + 2 * projected
        floats += batch * (COPIES_OF_ROWS * sum(widths) + COPIES_OF_OUTPUTS * outputs) + _queue_floats(experiment)
        steps = 4 * floats + INDEX_BYTES * len(train.split.text_rows) + FURTHER_BYTES
        return cls(train, val, experiment.training, compute, steps, precision=precision)

    @classmethod
    def of_largest(
        cls,
        experiments: Iterable[Experiment],
        train: PairFiles,
        val: PairFiles,
        compute: torch.dtype,
        precision: str = "auto",
    ) -> "Demand":
        """Return what one process takes for whichever of these experiments takes most, and has the largest batches."""
        demands = [cls.of(each, train, val, compute, precision) for each in experiments]
        settings = max((demand.settings for demand in demands), key=lambda settings: settings.batch_size)
        return replace(max(demands, key=lambda demand: demand.steps), settings=settings)

    @property
    def held(self) -> torch.dtype:
        """Return the number format in which rows are held."""
        return held_format(self.compute, self.precision)

    @property
    def beside(self) -> int:
        """Return the bytes of everything but the training rows."""
        return self.processes * self.steps + self._bytes_of(self.val)

    @property
    def resident(self) -> int:
        """Return the bytes of all training rows."""
        return self._bytes_of(self.train)

    @property
    def to_hold(self) -> int:
        """Return the bytes of all training rows that are not in memory yet; those handed over are a copy."""
        if self.handed_over:
            return self.resident
        return bytes_to_hold(self.train, self.held) * (1 if can_share() else self.processes)

    def streamed(self, order: BlockOrder) -> int:
        """Return the most bytes of the training rows that all processes hold at a time."""
        images, texts = self.train.image_file.width, self.train.texts.width
        pair = texts + images * most_images(self.train.split.text_image, order.block)
        return int(GROUPS_HELD * self.processes * order.together * pair * self.held.itemsize)

    def orders(self) -> Iterator[BlockOrder]:
        """Yield the orders in which the rows may be streamed, those with most pairs together first.

        Captions of one image are put into different batches only if their group has as many batches.
        """
        owners, batch = self.train.split.text_image, self.settings.batch_size
        fewest = int(np.bincount(owners).max()) if self.settings.same_image == "apart" else 1
        together = batch << max(0, (len(owners) - 1) // batch).bit_length()
        while together >= batch:
            order = BlockOrder(min(LARGEST_BLOCK, max(1, together // FEWEST_BLOCKS)), together)
            batches = order.batches(len(owners), batch)
            if len(batches) > 1 and batches.min() >= fewest:
                yield order
            together //= 2

    def _bytes_of(self, files: PairFiles) -> int:
        return files.values * self.held.itemsize


@functools.cache
def _sizes(model: tuple[tuple[str, Any], ...], image_dim: int, text_dim: int) -> tuple[int, int, int]:
    """Return the numbers that weights and buffers of a model have, and the outputs that its layers give for a pair."""
    settings = dict(model)
    # The weights are not kept, nor do they change what a training draws: it seeds the generator itself.
    built = DualEncoder(settings, image_dim, text_dim)
    outputs = sum(layer.out_features for layer in built.modules() if isinstance(layer, nn.Linear))
    weights, buffers = (sum(value.numel() for value in values) for values in (built.parameters(), built.buffers()))
    return weights, buffers, outputs + 2 * settings["hub_prototypes"]


def _queue_floats(experiment: Experiment) -> int:
    """Return the numbers that a loss with a queue holds: the keys of both modalities, and a block's logits with all."""
    if (size := experiment.loss.get("queue_size")) is None:
        return 0
    batch, width = experiment.training.batch_size, experiment.model["output_dim"]
    # Of BLIP's loss, a pair has two rows of logits.
    return 2 * COPIES_OF_QUEUES * size * width + min(CPU_TILE, 2 * batch) * (size + batch)


def most_images(text_image: np.ndarray, block: int) -> float:
    """Return the most images that a block of neighbouring pairs has for each of its pairs."""
    images = int(text_image.max()) + 1
    blocks = np.arange(len(text_image)) // block
    met = np.unique(blocks * images + text_image) // images
    return float((np.bincount(met) / np.bincount(blocks)).max())


def choose_order(
    demand: Demand,
    limit: int | None,
    is_kept: Callable[[BlockOrder | None], bool] | None = None,
) -> BlockOrder | None:
    """Return the order in which training rows are streamed, None if memory holds all; a UserError if there is no room.

    limit: the most bytes of training rows. is_kept: whether an interrupted training has taken this way, which is then
    preferred to a better one.
    """
    left = memory_left()
    room = int(SHARE_OF_REST * left) - demand.beside
    room = room if limit is None else min(room, limit)
    ways = _ways(demand, room, limit)
    if (best := next(ways, "none")) == "none":
        raise UserError(_refusal(demand, left, limit))
    chosen = next(filter(is_kept, chain([best], ways)), best) if is_kept else best
    if chosen:
        logger.info(
            "all training rows take %s where there is room for %s: read from their files, in groups of up to %d pairs",
            gigabytes(demand.resident),
            gigabytes(room),
            chosen.together,
        )
    return chosen


def _ways(demand: Demand, room: int, limit: int | None) -> Iterator[BlockOrder | None]:
    """Yield the ways to hold the training rows that fit, the best first."""
    most = min(_shared_memory() if demand.handed_over else math.inf, math.inf if limit is None else limit)
    if demand.to_hold <= room and demand.resident <= most:
        yield None
    yield from (order for order in demand.orders() if demand.streamed(order) <= room)


def _shared_memory() -> float:
    """Return the bytes that one process can hand to others."""
    if not SHARED_MEMORY.is_dir():
        return math.inf
    found = os.statvfs(SHARED_MEMORY)
    return found.f_bavail * found.f_frsize


def _refusal(demand: Demand, left: int, limit: int | None) -> str:
    smallest = min([demand.resident, *map(demand.streamed, demand.orders())])
    needed = f"training takes {gigabytes(int((smallest + demand.beside) / SHARE_OF_REST))} of memory at the least"
    there = f"{gigabytes(left)} are left" + (f" and `memory` allows {gigabytes(limit)} of rows" if limit else "")
    if demand.processes > 1:
        fewer = "`n_jobs`" if demand.handed_over else "training.devices"
        return f"{needed} in {demand.processes} processes, where {there}: lower {fewer} or training.batch_size"
    apart = ", or set training.same_image: masked" if demand.settings.same_image == "apart" else ""
    return f"{needed}, where {there}: give the job more, lower training.batch_size{apart}"


def load_within(demand: Demand, order: BlockOrder | None, device: torch.device) -> TrainingData:
    """Return the data of a training for a device; one that has no room for the training rows gets them by batches."""
    threads = torch.get_num_threads() if device.type != "cpu" else max(1, torch.get_num_threads() // THREADS_A_READER)
    data = load_training_data(demand.train, demand.val, demand.compute, order, threads, demand.precision)
    if device.type == "cpu" or (isinstance(data.train, ResidentPairs) and _fits(demand, device)):
        return data.to(device)
    logger.info("training rows are copied to %s batch by batch", device)
    return data.copied_to(device)


def _fits(demand: Demand, device: torch.device) -> bool:
    """Return whether a device holds all rows beside one process's steps; only of CUDA it is known how much is left."""
    if device.type != "cuda":
        return True
    left, _ = torch.cuda.mem_get_info(device)
    return demand.resident + replace(demand, processes=1).beside <= SHARE_OF_REST * left
