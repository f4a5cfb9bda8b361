"""Computations that go on in smaller pieces where a device has too little memory for large ones."""

import functools
import gc
import logging
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from frozenalign.system.errors import UserError, is_out_of_memory

logger = logging.getLogger(__name__)
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
Result = TypeVar("Result")
_warn_once = functools.cache(logger.warning)


def halved_until_it_fits(
    compute: Callable[[int], Result], size: int, smallest: int, what: str, setting: str
) -> tuple[Result, int]:
    """Return compute(size) and the size that it took, half as large for as long as memory runs out.

    compute gives the same result at any size, and changes nothing before it has succeeded. what: what the size counts,
    for the log, which hears of a size once. setting: what to lower, for the UserError where even `smallest` is too
    large.
    """
    while True:
        try:
            return compute(size), size
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size <= smallest:
                raise UserError(f"out of memory even with {size} {what} at once: {setting}") from error
            size = max(smallest, size // 2)
            _warn_once(f"out of memory: going on with {size} {what} at once")
        # The error, and with it the frames that held tensors, is gone only here.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def memory_limit() -> int:
    """Return the most bytes that this process can have: of the machine, of its control group, of `ulimit -v`."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    if (own := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        limits.append(own)
    return min(limits + [limit for path in CGROUP_LIMITS if (limit := _number_in(path)) is not None])


def _number_in(path: str) -> int | None:
    """Return the number that a file of the system holds, None where there is no such file or it says `max`."""
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
