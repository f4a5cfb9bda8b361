"""Time of training steps: against their matrix products alone, and against the loop that a user would write."""

from collections.abc import Iterator

import torch

from frozenalign.data.pairs import ResidentPairs
from tests.benchmarks.measurement import LIMIT, OURS, interleaved, seconds_of
from tests.benchmarks.training_speed import our_epoch, plain_loop, products, random_pairs
from tests.device.findings import Finding, at_least
from tests.device.sizes import Sizes

SHARE_OF_LIMIT, TIMES_A_PLAIN_LOOP = 50, 50
REPEATS = 3
PLAIN_BATCHES = 2


def steps(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Time epochs of `mlp` with the sigmoid loss, at several batch sizes; small ones have no targets."""
    for batch_size, batches in sizes.batches.items():
        data = random_pairs(batches * batch_size)
        ours, limit = our_epoch(data, batch_size, device), products(data, batch_size, device)
        medians = interleaved(1 if sizes.small else REPEATS, **{OURS: ours, LIMIT: limit})
        share, step = 100 * medians[LIMIT] / medians[OURS], medians[OURS] / batches
        check, case, note = "share of the products", f"batch {batch_size:,}", f"a step takes {1e3 * step:.3g} ms"
        if batch_size == sizes.compared and not sizes.small:
            yield at_least(check, case, share, SHARE_OF_LIMIT, " %", note)
        else:
            yield Finding(check, case, f"{share:.3g} %", note=note)
        if batch_size == sizes.compared:
            yield _against_a_plain_loop(batch_size, device, step, judged=not sizes.small)
            yield _with_tensor_cores(data, batch_size, device, medians[OURS])


def _against_a_plain_loop(batch_size: int, device: torch.device, step: float, judged: bool) -> Finding:
    few = random_pairs(PLAIN_BATCHES * batch_size)
    times = seconds_of(plain_loop(few, batch_size, device)) / PLAIN_BATCHES / step
    check, case = "times faster than a plain loop", f"batch {batch_size:,}"
    return at_least(check, case, times, TIMES_A_PLAIN_LOOP, " ×") if judged else Finding(check, case, f"{times:.3g} ×")


def _with_tensor_cores(data: ResidentPairs, batch_size: int, device: torch.device, before: float) -> Finding:
    """Time the epoch with float32 products in TF32, those of the loss among them."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        medians = interleaved(1, ours=our_epoch(data, batch_size, device))
    finally:
        torch.set_float32_matmul_precision(precision)
    case, found = f"TF32 for float32 products, batch {batch_size:,}", f"{before / medians['ours']:.2f} × as fast"
    return Finding("what would pay", case, found, note="those of the loss are in float32")
