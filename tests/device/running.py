"""The checks in their order, and a clock that ends them."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from frozenalign.system.memory import release_memory
from tests.device import agreement, memory, reading, resuming, speed, studying, waiting
from tests.device.findings import Finding
from tests.device.sizes import Sizes

Check = Callable[[torch.device, Sizes], Iterator[Finding]]
# What shows mistakes comes first, and the longest last.
CHECKS: tuple[Check, ...] = (
    agreement.losses,
    agreement.heads,
    agreement.ranks,
    resuming.resumed,
    resuming.carried_over,
    memory.shrinking,
    waiting.waits,
    waiting.launches,
    speed.steps,
    reading.ranking,
    reading.loading,
    studying.study,
)


class TimeIsUp(BaseException):
    """The checks have had their time; no code of the library catches it."""


def run_checks(
    checks: Sequence[Check], device: torch.device, sizes: Sizes, seconds: float, show: Callable[[str], None] = print
) -> list[Finding]:
    """Return what the checks find within so many seconds; one that fails or has no time left is a missed finding."""
    findings: list[Finding] = []
    ends = time.monotonic() + seconds
    for check in checks:
        name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
        left = ends - time.monotonic()
        if left <= 0:
            findings.append(Finding(name, "", "not begun", "", False, f"the {seconds:g} seconds were over"))
            continue
        began = time.monotonic()
        try:
            with _at_most(left):
                for finding in check(device, sizes):
                    findings.append(finding)
                release_memory()
        except TimeIsUp:
            findings.append(Finding(name, "", "not finished", "", False, f"the {seconds:g} seconds were over"))
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            findings.append(Finding(name, "", "failed", "", False, f"{type(error).__name__}: {reason}"))
        show(f"{name}: {time.monotonic() - began:.1f} s")
    return findings


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `TimeIsUp` in a block that takes longer."""

    def end(*_: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
