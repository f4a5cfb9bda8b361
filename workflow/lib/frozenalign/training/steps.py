"""The state of a training, and one step of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from frozenalign.configuration.experiments import TrainingSettings
from frozenalign.losses.matching import matching_loss
from frozenalign.losses.structure import Structure
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.memory import FittingSize
from frozenalign.system.processes import ALONE, Processes
from frozenalign.system.products import reduced_precision
from frozenalign.system.random_state import own_random_numbers
from frozenalign.training.augmentation import Augmentation
from frozenalign.training.averaging import MomentumCopy, WeightAverage
from frozenalign.training.micro_batches import BatchFeatures, parts_of
from frozenalign.training.optimizer import AdamW
from frozenalign.training.unit_rows import unit_rows

SMALLEST_PART = 16


@dataclass
class Fit:
    """A training in progress, with everything that must survive an interruption.

    epoch: finished epochs. step: steps taken. Of the epoch in progress, batch: batches done; first_step: its first
    step; loss_sum: sum of the losses over pairs. gain_epoch, gain_value: the best of the trained epochs, which count
    for patience: a head that starts from a closed form loses at first, and may gain more later. part: by device, how
    many rows of a batch are computed at once where memory does not hold the activations of all. calibration: what
    `calibrate` found for the loss. device_steps: what a GPU repeats, by the number of pairs (`training.device_steps`).
    plan: of the next epoch, where it is made early.
    """

    model: DualEncoder
    loss: nn.Module
    momentum_copy: MomentumCopy | None
    average: WeightAverage | None
    augmentation: Augmentation
    optimizer: AdamW
    learning_rate: Callable[[int], float]
    loss_sum: Tensor
    part: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    batch: int = 0
    first_step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf
    gain_epoch: int = 0
    gain_value: float = -math.inf
    best_state: dict[str, Tensor] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    processes: Processes = ALONE
    device_steps: dict[int, Any] = field(default_factory=dict)
    plan: Any = None

    @property
    def kept_model(self) -> DualEncoder:
        """Return the model that is validated and kept: the averaged one if there is one."""
        return self.average.model if self.average else self.model


def train_step(
    state: Fit, batch: tuple[Tensor, Tensor, Tensor], mixed_share: float, settings: TrainingSettings
) -> None:
    """Take one optimiser step on images (B, D_image), texts (B, D_text) and image indices (B,), and add up its loss.

    mixed_share: λ of the step, where pairs are mixed. After a loss that is not finite, weights no longer change.
    """
    compute_step(state, batch, mixed_share, state.learning_rate(state.step), settings)
    end_step(state)


def compute_step(
    state: Fit,
    batch: tuple[Tensor, Tensor, Tensor],
    mixed_share: float | Tensor,
    learning_rate: float | Tensor,
    settings: TrainingSettings,
) -> None:
    """Compute what a step changes on the device; what differs from step to step may be a tensor () there."""
    *frozen, image_index = batch
    images, texts = state.augmentation(*frozen, mixed_share)
    structure = Structure(settings.structure, *frozen) if settings.structure else None
    if state.momentum_copy:
        state.momentum_copy.update(state.model)
    gradients = _gradients if state.processes.count == 1 else _shared_gradients
    with reduced_precision(images):
        value, keys = gradients(state, images, texts, image_index, structure)
    state.loss_sum += len(images) * value
    broken = ~state.loss_sum.isfinite()
    state.optimizer.step(learning_rate, settings.gradient_clip, skip=broken)
    state.loss.after_step()
    if keys:
        state.loss.enqueue(*keys, image_index)


def end_step(state: Fit) -> None:
    """Add the weights after a step to their average, and count the step."""
    if state.average:
        state.average.update(state.model, state.step)
    state.step += 1


def _rows_at_once(state: Fit, batch_rows: int, inner: FittingSize | None) -> FittingSize:
    """Return how many rows of a batch fit in memory at once; a batch norm needs all rows together."""
    has_batch_norm = any(isinstance(module, nn.BatchNorm1d) for module in state.model.modules())
    smallest = batch_rows if has_batch_norm else SMALLEST_PART
    return FittingSize("rows of a batch", smallest, "lower training.batch_size", state.part, inner)


def _gradients(
    state: Fit, images: Tensor, texts: Tensor, image_index: Tensor, structure: Structure | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute the gradients of a batch, as many rows at a time as fit; return its loss and its momentum keys (B, D)."""
    rows = _rows_at_once(state, len(images), state.loss.tiles)
    return rows.run(_gradients_by_part, len(images), images.device, state, images, texts, image_index, structure)


def _gradients_by_part(
    part: int, state: Fit, images: Tensor, texts: Tensor, image_index: Tensor, structure: Structure | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute the gradients of a batch, `part` rows at a time, and return its loss and its momentum keys (B, D)."""
    state.optimizer.zero_grad()
    keys, features = _own_features(part, state, images, texts)
    loss = _loss(state, images, texts, image_index, features.outputs, keys, structure)
    loss.backward()
    features.backward()
    return loss.detach(), keys


def _shared_gradients(
    state: Fit, images: Tensor, texts: Tensor, image_index: Tensor, structure: Structure | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute the gradients of a batch with the other processes, and return its loss and its momentum keys (B, D).

    Each process computes the features of its own rows and its part of the loss. What shrinks for want of memory does so
    between the exchanges, in one process alone.
    """
    processes, device = state.processes, images.device
    rows = processes.rows(len(images))
    state.optimizer.zero_grad()
    with own_random_numbers(device, state.step * processes.count + processes.number):
        size = _rows_at_once(state, len(images), None)
        keys, features = size.run(_own_features, len(images), device, state, images[rows], texts[rows])
    keys = tuple(processes.gathered(vectors, len(images)) for vectors in keys)
    loss = _loss(state, images, texts, image_index, features.outputs, keys, structure)
    loss.backward()
    features.backward()
    value = loss.detach()
    processes.add_up([value, *(each.grad for each in state.optimizer.parameters if each.grad is not None)])
    return value, keys


def _own_features(part: int, state: Fit, images: Tensor, texts: Tensor) -> tuple[tuple[Tensor, ...], BatchFeatures]:
    """Return momentum keys and features of rows, computed `part` rows at a time."""
    keys = _keys(state.momentum_copy, images, texts, part)
    return keys, BatchFeatures(partial(tower_outputs, state.model), (images, texts), part)


def _loss(
    state: Fit,
    images: Tensor,
    texts: Tensor,
    image_index: Tensor,
    features: Sequence[Tensor],
    keys: tuple[Tensor, ...],
    structure: Structure | None,
) -> Tensor:
    """Return the contrastive loss plus the structure penalty and the matching loss, where they are used.

    Of several processes, each gives the features of its own rows and gets its part; the parts add up to the loss. Only
    what needs the features of all makes the processes gather them.
    """
    processes, own = state.processes, features[:2]
    count = processes.count
    if structure or len(features) > 2 or not state.loss.shares_rows:
        features = [processes.gathered(rows, len(images)) for rows in features]
    x, y, *tokens = features
    if state.loss.shares_rows:
        loss = state.loss(*own, image_index, *keys)
    else:
        loss = state.loss(x, y, image_index, *keys) / count
    if structure:
        loss = loss + structure(x, y) / count
    if tokens:
        with _autocast(images):
            similarity = x @ y.T
            loss = loss + matching_loss(state.model.scorer, *tokens, similarity, image_index, processes=processes)
    return loss


def _keys(copy: MomentumCopy | None, images: Tensor, texts: Tensor, part: int) -> tuple[Tensor, ...]:
    """Return the momentum copy's unit vectors (B, D) of images and texts, or none without a copy."""
    if copy is None:
        return ()
    with torch.no_grad():
        by_part = [tower_outputs(copy, images[rows], texts[rows]) for rows in parts_of(len(images), part)]
    return tuple(torch.cat(vectors) for vectors in zip(*by_part, strict=True))


def _autocast(rows: Tensor) -> torch.autocast:
    return torch.autocast(rows.device.type, dtype=rows.dtype, enabled=rows.dtype == torch.bfloat16)


def tower_outputs(model: DualEncoder | MomentumCopy, images: Tensor, texts: Tensor) -> tuple[Tensor, ...]:
    """Return unit vectors (B, D) of standardised images and texts, and their tokens if there is a pair scorer."""
    with _autocast(images):
        if model.scorer is None:
            return unit_rows(model.image_tower(images)), unit_rows(model.text_tower(texts))
        x, image_tokens = model.image_tower.with_tokens(images)
        y, text_tokens = model.text_tower.with_tokens(texts)
        return unit_rows(x), unit_rows(y), image_tokens, text_tokens
