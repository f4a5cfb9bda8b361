"""What happens where memory runs out, and how much of it there is."""

import gc
import logging
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from frozenalign.system.errors import UserError, is_out_of_memory
from frozenalign.system.random_state import random_state, restore_random_state

logger = logging.getLogger(__name__)
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
Result = TypeVar("Result")


class OutOfMemoryError(UserError):
    """Memory ran out even with the smallest pieces of a computation; the message says what to lower."""


@dataclass
class FittingSize:
    """How much of a computation is done at once; where memory runs out it is halved, and the size that fits is kept.

    what: what the size counts, for the log. smallest: a size that is not halved any more. remedy: what to change where
    even that is too large. found: sizes that were halved until they fitted, by the name of the device; the next
    computation starts with them. inner: the size of a computation inside this one. It is halved first. Once its
    smallest does not fit, this size is halved, and the inner one starts again from its full size: there is more room.
    """

    what: str
    smallest: int
    remedy: str
    found: dict[str, int] = field(default_factory=dict)
    inner: "FittingSize | None" = None

    def run(self, compute: Callable[..., Result], size: int, device: torch.device, *arguments: Any) -> Result:
        """Return compute(size, *arguments), with a smaller size where one was found or memory runs out.

        compute gives the same result at any size, and changes nothing before it has succeeded. An attempt draws the
        random numbers of the one before.
        """
        size = min(size, self.found.get(str(device), size))
        random = random_state(device)
        while True:
            try:
                return compute(size, *arguments)
            except (RuntimeError, MemoryError, OutOfMemoryError) as error:
                if not (isinstance(error, OutOfMemoryError) or is_out_of_memory(error)):
                    raise
                if size <= self.smallest:
                    raise OutOfMemoryError(
                        f"out of memory even with {size} {self.what} at once: {self.remedy}"
                    ) from error
                size = self._halved(size, device)
            # The error is gone here, and with it the frames that held tensors.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            restore_random_state(random)

    def _halved(self, size: int, device: torch.device) -> int:
        """Return half a size that was too large for a device, and keep it; the inner size starts anew."""
        size = max(self.smallest, size // 2)
        self.found[str(device)] = size
        if self.inner:
            self.inner.found.pop(str(device), None)
        logger.warning("out of memory: going on with %d %s at once", size, self.what)
        return size


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
