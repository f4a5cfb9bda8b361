"""Loading of training rows, from their files to the device, and the evaluation of COCO's test set there."""

from collections.abc import Iterator

import torch

from frozenalign.evaluation.ranks import retrieval_ranks
from tests.benchmarks import loading_speed
from tests.benchmarks.measurement import interleaved
from tests.benchmarks.retrieval_speed import product_alone, projections
from tests.benchmarks.training_speed import random_pairs
from tests.device.findings import Finding, at_most
from tests.device.sizes import Sizes

TIMES_OF_READING = 2
COPIED_PAIRS = 8192


def loading(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Time the loading of rows beside reading their bytes once, and their way to the device."""
    for row in loading_speed.measure(quick=sizes.small):
        times = row.ours / row.limit
        # A few kilobytes are read in no time: nothing follows from them.
        note = f"{row.ours:.3g} s; {row.note}"
        if sizes.small:
            yield Finding("loading, in times of reading once", row.case, f"{times:.3g} ×", note=note)
        else:
            yield at_most("loading, in times of reading once", row.case, times, TIMES_OF_READING, " ×", note)
    if device.type == "cpu":
        return
    pairs = random_pairs(200 if sizes.small else COPIED_PAIRS)

    def copy() -> None:
        pairs.to(device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    size = sum(rows.numel() * rows.element_size() for rows in (pairs.images, pairs.texts))
    rate = size / interleaved(3, copy=copy)["copy"] / 1e9
    yield Finding("loading", f"copying {size / 1e6:.0f} MB to {device.type}", f"{rate:.3g} GB/s")


def ranking(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Time exact ranks of both directions beside the matrix product of all scores."""
    images, texts, owner = projections(sizes.images, device)
    cases = {"ours": lambda: retrieval_ranks(images, texts, owner), "limit": product_alone(images, texts)}
    medians = interleaved(1 if sizes.small else 3, **cases)
    share = f"{100 * medians['limit'] / medians['ours']:.0f} % of the product alone"
    yield Finding("evaluation", f"{len(images):,} × {len(texts):,}", f"{medians['ours']:.3g} s", note=share)
