"""What this machine can do at best, in processor seconds: read, hash, and multiply matrices."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from frozenalign.system.devices import choose_device, choose_precision
from frozenalign.system.products import product

READ_BYTES = 8 << 20
MOST_BYTES = 1 << 30
ROWS, INNER, COLUMNS = 4096, 1024, 1024
REPEATS = 5


@dataclass(frozen=True)
class Rates:
    """Per processor second: bytes read from the page cache, bytes read with SHA-256, and products' operations.

    training_operations: in the number format that training computes in.
    """

    read: float
    hashed: float
    operations: float
    training_operations: float

    @classmethod
    def measured(cls, path: Path, size: int = ROWS) -> "Rates":
        """Measure on a file, whose first GB is brought into the page cache. size: rows of the products."""
        _read(path, lambda part: None)
        read, hashed = (_best(lambda use=use: _read(path, use)) for use in (lambda part: None, hashlib.sha256().update))
        training = choose_precision("auto", choose_device("cpu"))
        return cls(
            read, hashed, *(_best(lambda kind=kind: _multiply(size, kind)) for kind in (torch.float32, training))
        )


def _best(case: Callable[[], float]) -> float:
    """Return the most work a processor second of a few repeats; case: does some work and returns how much."""
    found = []
    for _ in range(REPEATS):
        began = time.process_time()
        work = case()
        found.append(work / (time.process_time() - began))
    return max(found)


def _read(path: Path, use: Callable[[memoryview], object]) -> int:
    """Read the first GB of a file in pieces and return the bytes."""
    buffer = memoryview(bytearray(READ_BYTES))
    done = 0
    with path.open("rb", buffering=0) as stream:
        while done < MOST_BYTES and (count := stream.readinto(buffer)):
            use(buffer[:count])
            done += count
    return done


def _multiply(size: int, number: torch.dtype) -> int:
    """Multiply matrices by the fastest product that the library has and return the operations."""
    left, right = torch.ones(size, INNER, dtype=number), torch.ones(INNER, COLUMNS, dtype=number)
    multiplied = product if number == torch.float32 else torch.mm
    for _ in range(REPEATS):
        multiplied(left, right)
    return REPEATS * 2 * size * INNER * COLUMNS
