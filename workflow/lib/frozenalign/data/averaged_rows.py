"""Rows of images that have several: each is read as their mean."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.rows import CHUNK_BYTES, Rows
from frozenalign.system.products import blocks

FURTHER_AT_ONCE = 1024


@dataclass(frozen=True)
class AveragedRows(Rows):
    """Rows of which some represent several: such a row is read as the mean of itself and further rows.

    first: (k,) ascending row numbers. further: (k,) a row that row `first` is averaged with.
    """

    file: Rows
    first: np.ndarray
    further: np.ndarray

    @property
    def path(self) -> Path:
        """Return the path of the rows themselves."""
        return self.file.path

    @property
    def rows(self) -> int:
        """Return how many rows there are, further ones counted."""
        return self.file.rows

    @property
    def width(self) -> int:
        """Return how many numbers a row has."""
        return self.file.width

    @property
    def dtype(self) -> torch.dtype:
        """Return the number format, which means are rounded to."""
        return self.file.dtype

    def fill(self, rows: Tensor, start: int) -> Tensor:
        """Read rows start to start + len(rows) - 1, not averaged, into a tensor of `dtype`, and return it."""
        return self.file.fill(rows, start)

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start to stop - 1, averaged, as a new tensor (stop - start, width)."""
        rows = super().read(start, stop)
        self._average(np.arange(start, stop), rows)
        return rows

    def select(self, rows: np.ndarray, chunk_bytes: int = CHUNK_BYTES) -> Iterator[tuple[slice, Tensor]]:
        """Yield (place in `rows`, those rows, averaged) for ascending row numbers, as Rows.select does."""
        for where, chunk in super().select(rows, chunk_bytes):
            self._average(rows[where], chunk)
            yield where, chunk

    def batches(self, rows: np.ndarray, batch_bytes: int = CHUNK_BYTES) -> Iterator[tuple[slice, Tensor]]:
        """Yield (place in `rows`, those rows, averaged) for ascending row numbers, as Rows.batches does."""
        for where, batch in super().batches(rows, batch_bytes):
            self._average(rows[where], batch)
            yield where, batch

    def take(self, rows: np.ndarray) -> Tensor:
        """Return ascending rows (len(rows), width), averaged, as a new tensor, as Rows.take does."""
        taken = super().take(rows)
        if len(rows):
            self._average(rows, taken)
        return taken

    def _average(self, rows: np.ndarray, chunk: Tensor) -> None:
        """Replace the rows (n, width) with these ascending numbers by their means."""
        begin, end = np.searchsorted(self.first, [rows[0], rows[-1] + 1])
        asked = np.isin(self.first[begin:end], rows)
        first, further = self.first[begin:end][asked], self.further[begin:end][asked]
        if not len(first):
            return
        in_file = np.argsort(further, kind="stable")
        place = torch.from_numpy(np.searchsorted(rows, first[in_file]))
        means, counts = chunk.float(), 1 + torch.bincount(place, minlength=len(chunk))
        for where in blocks(len(in_file), FURTHER_AT_ONCE):
            means.index_add_(0, place[where], self.file.take(further[in_file][where]).float())
        averaged = counts > 1
        chunk[averaged] = (means[averaged] / counts[averaged, None]).to(chunk.dtype)
