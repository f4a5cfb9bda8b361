"""Rows of several files, one after the other, read as those of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from frozenalign.data.rows import Rows
from frozenalign.system.errors import UserError


@dataclass(frozen=True)
class JoinedRows(Rows):
    """The rows of `first`, then those of `second`, of equal width; in float32 where their number formats differ."""

    first: Rows
    second: Rows

    def __post_init__(self) -> None:
        """Refuse rows of another width."""
        if self.first.width != self.second.width:
            raise UserError(
                f"{self.second.where} has {self.second.width} dimensions but {self.first.where} has "
                f"{self.first.width}: encode both with the same encoder, or move it away"
            )

    @property
    def path(self) -> Path:
        """Return the path of the first file."""
        return self.first.path

    @property
    def where(self) -> str:
        """Return what messages call the rows."""
        return f"{self.first.where} with {self.second.path.name} after it"

    @property
    def rows(self) -> int:
        """Return how many rows there are in all."""
        return self.first.rows + self.second.rows

    @property
    def width(self) -> int:
        """Return how many numbers a row has."""
        return self.first.width

    @property
    def dtype(self) -> torch.dtype:
        """Return the number format that holds the numbers of both."""
        return torch.promote_types(self.first.dtype, self.second.dtype)

    def fill(self, rows: Tensor, start: int) -> Tensor:
        """Read rows start to start + len(rows) - 1 into a tensor of `dtype`, and return it."""
        begin = 0
        for part in (self.first, self.second):
            own = slice(max(start, begin), min(start + len(rows), begin + part.rows))
            if own.start < own.stop:
                _fill_from(part, rows[own.start - start : own.stop - start], own.start - begin)
            begin += part.rows
        return rows


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of one part or of two."""
    return JoinedRows(*parts) if len(parts) > 1 else parts[0]


def _fill_from(part: Rows, rows: Tensor, start: int) -> None:
    """Read rows of a part, from its row `start` on, into a tensor that may have another number format."""
    if rows.dtype == part.dtype:
        part.fill(rows, start)
    else:
        rows.copy_(part.read(start, start + len(rows)))
