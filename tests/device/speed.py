"""Time of training steps: against their matrix products alone, and against the loop that a user would write."""

from collections.abc import Callable, Iterator
from unittest import mock

import torch

from frozenalign.data.pairs import ResidentPairs
from frozenalign.system.recording import can_record, record
from frozenalign.training import device_steps
from tests.benchmarks.measurement import LIMIT, OURS, interleaved, seconds_of
from tests.benchmarks.training_speed import our_epoch, plain_loop, products_of_step, random_pairs
from tests.device.findings import Finding, at_least
from tests.device.sizes import Sizes

SHARE_OF_LIMIT, TIMES_A_PLAIN_LOOP = 50, 50
REPEATS = 3
PLAIN_BATCHES = 2
# Steps that are launched one by one until the last.
NEVER = -1


def steps(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Time epochs of `mlp` with the sigmoid loss, at several batch sizes; small ones have no targets."""
    for batch_size, batches in sizes.batches.items():
        data = random_pairs(batches * batch_size)
        ours, limit = (
            our_epoch(data, batch_size, device),
            _repeated(products_of_step(batch_size, device), batches, device),
        )
        medians = interleaved(1 if sizes.small else REPEATS, **{OURS: ours, LIMIT: limit})
        share, step = 100 * medians[LIMIT] / medians[OURS], medians[OURS] / batches
        check, case = "share of the products", f"batch {batch_size:,}"
        note = f"a step takes {1e3 * step:.3g} ms, its products {1e3 * medians[LIMIT] / batches:.3g} ms"
        judged = batch_size == sizes.compared and not sizes.small
        if judged:
            yield at_least(check, case, share, SHARE_OF_LIMIT, " %", note)
        else:
            yield Finding(check, case, f"{share:.3g} %", note=note)
        if can_record(device):
            yield _against_launched(data, batch_size, device, medians[OURS])
        if batch_size == sizes.compared:
            yield _against_a_plain_loop(batch_size, device, step, judged)


def _repeated(compute: Callable[[], None], times: int, device: torch.device) -> Callable[[], None]:
    """Return what computes so many times, without the time of launching where the device can be spared it."""
    compute()
    once = record(compute).replay if can_record(device) else compute

    def repeat() -> None:
        for _ in range(times):
            once()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return repeat


def _against_launched(data: ResidentPairs, batch_size: int, device: torch.device, recorded: float) -> Finding:
    """Compare with an epoch whose kernels are all launched by the CPU."""
    with mock.patch.object(device_steps, "LAUNCHED", NEVER):
        launched = interleaved(1, ours=our_epoch(data, batch_size, device))["ours"]
    case = f"a recorded epoch against a launched one, batch {batch_size:,}"
    return Finding("recorded steps", case, f"{launched / recorded:.2f} × as fast")


def _against_a_plain_loop(batch_size: int, device: torch.device, step: float, judged: bool) -> Finding:
    few = random_pairs(PLAIN_BATCHES * batch_size)
    times = seconds_of(plain_loop(few, batch_size, device)) / PLAIN_BATCHES / step
    check, case = "times faster than a plain loop", f"batch {batch_size:,}"
    return at_least(check, case, times, TIMES_A_PLAIN_LOOP, " ×") if judged else Finding(check, case, f"{times:.3g} ×")
