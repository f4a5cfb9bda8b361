"""Computations that go on in smaller pieces where a device has too little memory for large ones."""

import functools
import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from workflow.lib.errors import UserError, is_out_of_memory

logger = logging.getLogger(__name__)

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
