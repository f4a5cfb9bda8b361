"""Computations that shrink when memory runs out."""

import ctypes
import functools
import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from frozenalign.system.errors import UserError, is_out_of_memory
from frozenalign.system.memory_left import gigabytes, memory_left
from frozenalign.system.random_state import random_state, restore_random_state
from frozenalign.system.recording import is_recorded

logger = logging.getLogger(__name__)
# In glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
OWN_MAPPING_BYTES, TRIMMED_BYTES = 1 << 20, 128 << 10
KEPT_BYTES = 1 << 30
Result = TypeVar("Result")
_LEAF = torch.zeros((), requires_grad=True)
_OLDEST_NODE = _LEAF + 0


class OutOfMemoryError(UserError):
    """Memory ran out even at the smallest size of a computation; the message says what to lower."""


@dataclass
class FittingSize:
    """How much of a computation is done at once: halved when memory runs out, and the size that fits is kept.

    what: what the size counts, for the log. smallest: a size that is not halved any more. remedy: what to change if
    that is still too large. found: the halved sizes by device name, with which the next computation starts. inner: the
    size of a computation inside this one, which is halved first. Once its smallest does not fit, this size is halved,
    and the inner one starts again from its full size.
    """

    what: str
    smallest: int
    remedy: str
    found: dict[str, int] = field(default_factory=dict)
    inner: "FittingSize | None" = None

    def run(self, compute: Callable[..., Result], size: int, device: torch.device, *arguments: Any) -> Result:
        """Return compute(size, *arguments), with a smaller size if one was found before or memory runs out.

        compute gives the same result at any size and changes nothing until it succeeds. Every attempt draws the same
        random numbers.
        """
        size = min(size, self.found.get(str(device), size))
        if is_recorded(device):
            return compute(size, *arguments)  # It has been computed before, with this size.
        random = random_state(device)
        while True:
            try:
                return compute(size, *arguments)
            except (RuntimeError, MemoryError, OutOfMemoryError) as error:
                if not (isinstance(error, OutOfMemoryError) or is_out_of_memory(error)):
                    raise
                if size <= self.smallest:
                    message = f"out of memory even with {size} {self.what} at once: {self.remedy}"
                    raise OutOfMemoryError(message) from error
            size = self.found[str(device)] = max(self.smallest, size // 2)
            if self.inner:
                self.inner.found.pop(str(device), None)
            logger.warning("out of memory: going on with %d %s at once", size, self.what)
            # The error no longer exists here, nor do the frames that held tensors.
            release_memory()
            restore_random_state(random)


def refuse_beyond_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse work that takes more bytes than are left; what: the work, as the words before `takes`."""
    if needed > (left := memory_left()):
        raise UserError(f"{what} takes {gigabytes(needed)} of memory where {gigabytes(left)} are left: {remedy}")


def release_memory() -> None:
    """Give back what a failed computation leaves behind: graphs that autograd still holds, and freed pages."""
    gc.collect()
    # Nodes of a failed backward pass wait in this thread's queue until one with a lower sequence number is run.
    torch.autograd.grad(_OLDEST_NODE, _LEAF)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    # From now on, glibc maps large blocks one by one: freed between others in its heap, they would stay taken.
    _tune_malloc(OWN_MAPPING_BYTES, TRIMMED_BYTES)
    if (give_back := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        give_back(0)


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory: steps that free it and request the same would fault all its pages anew.

    A process does so once; `release_memory` ends it.
    """
    _tune_malloc(KEPT_BYTES, KEPT_BYTES)


def _tune_malloc(mapped_from: int, trimmed_from: int) -> None:
    """Set the sizes from which glibc maps a block on its own and gives back the free end of its heap."""
    if (tune := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        tune(M_MMAP_THRESHOLD, mapped_from)
        tune(M_TRIM_THRESHOLD, trimmed_from)
