"""The least that each step can take on this machine: the bytes that it has to read, and its matrix products."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from frozenalign.configuration.experiments import Experiment
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.hubness import TRAINING_PAIRS
from frozenalign.models.dual_encoder import DualEncoder
from tests.benchmarks.coco.rates import Rates

COUNTED_ROWS = 64
# Products of a batch with itself and with a queue, forward and backward, by loss: one of logits and two of slopes serve
# both directions without a queue; with one, each direction has its own logits and slopes, and `blip` those of a copy.
LOSS_PRODUCTS = {"queue": (0, 4), "blip": (6, 6)}
PRODUCTS_WITHOUT_QUEUE = (3, 0)


@dataclass(frozen=True)
class Work:
    """What the steps have to do at least.

    data, split: folders. widths: of image and text embeddings. value_bytes: of one number in the files.
    """

    split: Path
    widths: tuple[int, int]
    value_bytes: int

    def rows(self, name: str) -> tuple[int, int]:
        """Return the numbers of images and of captions in a split."""
        index = SplitIndex.load(self.split / f"{name}.npz")
        return len(index.image_rows), len(index.text_rows)

    def bytes_of(self, name: str) -> int:
        """Return the bytes of a split's rows, each image's once."""
        return self.value_bytes * sum(rows * width for rows, width in zip(self.rows(name), self.widths, strict=True))

    def split_seconds(self, rates: Rates, files: list[Path]) -> float:
        """Return the seconds of reading all files once with SHA-256."""
        return sum(path.stat().st_size for path in files) / rates.hashed

    def moment_seconds(self, rates: Rates) -> float:
        """Return the seconds of reading the training rows and multiplying them for covariances in float32.

        Of a symmetric product one half counts; the one across takes the summed captions of each image.
        """
        (images, captions), (image, text) = self.rows("train"), self.widths
        operations = images * image**2 + captions * text**2 + 2 * images * image * text
        return self.bytes_of("train") / rates.read + operations / rates.operations

    def epoch_seconds(self, rates: Rates, experiment: Experiment) -> float:
        """Return the seconds of reading the training rows and of one epoch's products, forward and backward."""
        pairs = self.rows("train")[1]
        operations = pairs * (tower_operations(experiment, self.widths) + loss_operations(experiment))
        return self.bytes_of("train") / rates.read + operations / rates.training_operations

    def evaluation_seconds(self, rates: Rates, model: DualEncoder) -> float:
        """Return the seconds of reading and projecting the rows, and of the products that rankings need.

        These are one of all test images and texts, and one of each with the training sample that corrects hubs.
        """
        (images, captions), (train_images, train_captions) = self.rows("test"), self.rows("train")
        sampled_captions = min(TRAINING_PAIRS, train_captions)
        sampled_images = sampled_captions * train_images // train_captions
        forward = projection_operations(model)
        products = images * captions + images * sampled_captions + captions * sampled_images
        operations = (images + sampled_images) * forward[0] + (captions + sampled_captions) * forward[1]
        operations += 2 * products * model.settings["output_dim"]
        read = self.bytes_of("test") * (1 + sampled_captions / captions)
        return read / rates.read + operations / rates.operations


def tower_operations(experiment: Experiment, widths: tuple[int, int]) -> int:
    """Return the operations of the products of both towers for one pair, forward and backward; also of a momentum copy.

    The pair scorer of a head that re-ranks, which sees some pairs of a batch, is left out.
    """
    with torch.device("meta"):
        model = DualEncoder(experiment.model, *widths)
    with FlopCounterMode(display=False) as counter:
        images, texts = (torch.zeros(COUNTED_ROWS, width, device="meta") for width in widths)
        (model.image_tower(images).sum() + model.text_tower(texts).sum()).backward()
    copy = sum(projection_operations(model)) if "queue_size" in experiment.loss else 0
    return counter.get_total_flops() // COUNTED_ROWS + copy


def loss_operations(experiment: Experiment) -> int:
    """Return the operations of the products of a loss for one pair, forward and backward."""
    of_batch, of_queue = LOSS_PRODUCTS.get(experiment.loss["type"], PRODUCTS_WITHOUT_QUEUE)
    keys = of_batch * experiment.training.batch_size + of_queue * experiment.loss.get("queue_size", 0)
    return 2 * keys * experiment.model["output_dim"]


def projection_operations(model: DualEncoder) -> tuple[int, int]:
    """Return the operations of the products of one image's and one caption's projection."""
    # On a device without numbers, and in training, where layers of attention have no path that is not counted.
    model.to("meta").train()
    counted = []
    for tower, width in ((model.image_tower, model.dims["image"]), (model.text_tower, model.dims["text"])):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            tower(torch.zeros(COUNTED_ROWS, width, device="meta"))
        counted.append(counter.get_total_flops() // COUNTED_ROWS)
    return counted[0], counted[1]
