"""The pairs of a training."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from frozenalign.closed_forms.decompositions import PrincipalAxes
from frozenalign.data.batches import BlockOrder
from frozenalign.data.copied_pairs import CopiedPairs
from frozenalign.data.moments import standardized_covariances
from frozenalign.data.pairs import (
    PairFiles,
    ResidentPairs,
    Statistics,
    TrainingPairs,
    load_pairs,
    pair_chunks,
    pair_statistics,
)
from frozenalign.data.shared_rows import shared_pairs
from frozenalign.data.streamed_pairs import StreamedPairs


@dataclass(frozen=True)
class TrainingData:
    """Standardised pairs for training and validation, with the statistics that standardised them."""

    train: TrainingPairs
    val: ResidentPairs
    image: Statistics
    text: Statistics

    @cached_property
    def principal_axes(self) -> tuple[PrincipalAxes, PrincipalAxes]:
        """Return the axes of the training rows of both modalities, found once for all trials of a study."""
        image, text = standardized_covariances(pair_chunks(where_float64_is(self.train)))
        return PrincipalAxes.of(image), PrincipalAxes.of(text)

    def to(self, device: torch.device) -> "TrainingData":
        """Return the same data on a device."""
        return replace(self, train=self.train.to(device), val=self.val.to(device))

    def copied_to(self, device: torch.device) -> "TrainingData":
        """Return the same data for a device that gets the training pairs batch by batch."""
        held = self.val.images.dtype
        train = CopiedPairs(replace(self.train, compute=held), device, self.train.compute)
        return replace(self, train=train, val=self.val.to(device))


def where_float64_is(pairs: TrainingPairs) -> TrainingPairs:
    """Return pairs on their device, or on the CPU if the device has no float64."""
    return pairs.to(torch.device("cpu")) if pairs.device.type == "mps" else pairs


def held_format(compute: torch.dtype, precision: str = "auto") -> torch.dtype:
    """Return the number format in which rows are held for steps in `compute`; precision: what `precision:` says.

    Only `fp32` holds rows in 32 bits, as it asks for. Else they are held in 16: standardised values need little range,
    so that float16 keeps 11 bits of each.
    """
    return torch.float16 if compute == torch.float32 and precision != "fp32" else compute


def load_training_data(
    train: PairFiles,
    val: PairFiles,
    compute: torch.dtype,
    order: BlockOrder | None = None,
    threads: int = 1,
    precision: str = "auto",
) -> TrainingData:
    """Read the training and validation pairs, standardised by the training rows, for steps in `compute`.

    order: the order in which training pairs are streamed, read by so many threads; without it, memory holds them, once
    for all processes that hold the same. precision: what `precision:` says, for the format of the rows.
    """
    image, text = pair_statistics(train)
    formats = held_format(compute, precision), compute
    if order is None:
        train_pairs = shared_pairs(train, image, text, *formats)
    else:
        train_pairs = StreamedPairs(train, image, text, *formats, order, threads)
    return TrainingData(train_pairs, load_pairs(val, image, text, *formats), image, text)
