"""Rows of noise in place of a file's, drawn where they are read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.rows import Rows

DRAWN_ROWS = 64


@dataclass(frozen=True)
class NoiseRows(Rows):
    """Rows that are read as standard normal ones; seed and row number decide each. path: of those they stand for."""

    path: Path
    rows: int
    width: int
    dtype: torch.dtype
    seed: int

    def fill(self, rows: Tensor, start: int) -> Tensor:
        """Draw rows start to start + len(rows) - 1 into a tensor of `dtype`, and return it."""
        for first in range(start - start % DRAWN_ROWS, start + len(rows), DRAWN_ROWS):
            generator = np.random.default_rng([self.seed, first])
            drawn = torch.from_numpy(generator.standard_normal((DRAWN_ROWS, self.width), dtype=np.float32))
            begin, end = max(first, start), min(first + DRAWN_ROWS, start + len(rows))
            rows[begin - start : end - start] = drawn[begin - first : end - first]
        return rows
