"""Every row of an embedding file read once: what is no embedding is refused, the first rows named."""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.rows import CHUNK_BYTES, RowFile
from frozenalign.system.errors import UserError

SHOWN_ROWS = 5
# Lengths of embeddings of one encoder differ by a few times. A far longer one decides every mean and scale.
LONG_RATIO, LONGEST_RATIO, SHORTEST_RATIO = 30.0, 1e3, 1e-4
# Squares of all lengths between are float32 numbers.
SHORTEST, LONGEST = 1e-12, 1e12


@dataclass(frozen=True)
class CheckedRows:
    """A file that was read: its SHA-256, whether all its rows are equal, and warnings about single rows."""

    sha256: str
    equal: bool
    warnings: list[str]


def check_rows(file: RowFile) -> CheckedRows:
    """Read a file once; NaN, infinite and all-zero rows are refused, the first ones named.

    So are rows far longer or shorter than the others, which no encoder gives, and bytes that have changed since they
    were written, of which there is a checksum.
    """
    digest = _Digest(file)
    lengths = torch.empty(file.rows, dtype=torch.float64)
    first, varies = file.read(0, 1), False
    bad: dict[str, _BadRows] = {"NaN or infinite": _BadRows(), "all-zero": _BadRows()}
    digest.read(0, file.offset)
    for start, rows in file.chunks():
        digest.update(rows.view(torch.uint8).numpy().data)
        squares = rows.float().square().sum(1)
        doubtful = torch.nonzero(~(squares.isfinite() & (squares > SHORTEST**2))).flatten()
        exact = rows[doubtful]
        varies = varies or bool((rows != first).any())
        lengths[start : start + len(rows)] = squares.double().sqrt()
        lengths[start + doubtful] = exact.double().norm(dim=1)
        bad["NaN or infinite"].add(doubtful[~exact.isfinite().all(1)] + start)
        bad["all-zero"].add(doubtful[(exact == 0).all(1)] + start)
    digest.read(file.offset + file.rows * file.row_bytes, file.path.stat().st_size)
    for problem, rows in bad.items():
        rows.refuse(file.path, problem)
    digest.refuse_damage()
    return CheckedRows(digest.content.hexdigest(), not varies, _length_warnings(file.path, lengths))


def _length_warnings(path: Path, lengths: Tensor) -> list[str]:
    """Return a warning about very long rows, given the lengths of all (rows,); absurd lengths are refused."""
    median = float(lengths.median())
    low, high = max(SHORTEST, median * SHORTEST_RATIO), min(LONGEST, median * LONGEST_RATIO)
    absurd = torch.nonzero(~((lengths >= low) & (lengths <= high))).flatten()
    if len(absurd):
        raise UserError(
            f"{path} has {len(absurd)} rows whose length is absurd (first: {_first(absurd, lengths)}; the median is "
            f"{median:.3g}, taken are lengths from {low:.3g} to {high:.3g}): encode these inputs again, or leave their "
            "pairs out"
        )
    long = torch.nonzero(lengths > LONG_RATIO * median).flatten()
    if not len(long):
        return []
    return [
        f"{path.name} has {len(long)} rows more than {LONG_RATIO:.0f} times as long as the median, {median:.3g} "
        f"(first: {_first(long, lengths)}), which decide means and scales: encode these inputs again, or leave their "
        "pairs out"
    ]


def _first(rows: Tensor, lengths: Tensor) -> str:
    return ", ".join(f"row {row} of length {float(lengths[row]):.3g}" for row in rows[:SHOWN_ROWS].tolist())


class _Digest:
    """The SHA-256 of a file that is gone through in order, and the checksum of the record that holds its tensor."""

    def __init__(self, file: RowFile) -> None:
        self.path, self.record = file.path, file.record
        self.content, self.checksum, self.position = hashlib.sha256(), 0, 0

    def read(self, start: int, stop: int) -> None:
        """Take in bytes start to stop - 1, some 2 MB at a time."""
        with self.path.open("rb") as stream:
            stream.seek(start)
            while start < stop and (piece := stream.read(min(stop - start, CHUNK_BYTES))):
                start += len(piece)
                self.update(memoryview(piece))

    def update(self, piece: memoryview) -> None:
        """Take in the bytes that follow."""
        piece = piece.cast("B")
        self.content.update(piece)
        inside = piece[max(0, self.record.start - self.position) : max(0, self.record.stop - self.position)]
        self.checksum = zlib.crc32(inside, self.checksum)
        self.position += len(piece)

    def refuse_damage(self) -> None:
        """Refuse a record whose bytes are not those that were written; a writer may leave the checksum out, as 0."""
        if self.record.checksum not in (0, self.checksum):
            raise UserError(
                f"{self.path} is damaged: bytes {self.record.start} to {self.record.stop} do not match their checksum; "
                "copy or write it again, without checksums (torch.serialization.set_crc32_options) to fill it in place"
            )


class _BadRows:
    """Rows that are no embeddings: how many, and the first of them."""

    def __init__(self) -> None:
        self.count, self.first = 0, []

    def add(self, rows: Tensor) -> None:
        self.count += len(rows)
        self.first += rows[: SHOWN_ROWS - len(self.first)].tolist()

    def refuse(self, path: Path, problem: str) -> None:
        if self.count:
            raise UserError(
                f"{path} has {self.count} {problem} rows (first: {', '.join(map(str, self.first))}): "
                "encode these inputs again, or leave their pairs out"
            )


def row_digests(chunks: Iterable[Tensor]) -> np.ndarray:
    """Return a 16-byte digest of every row of chunks (b, width), (rows,): equal digests mean bit-identical rows."""
    digests = bytearray()
    for rows in chunks:
        for row in rows.view(torch.uint8).numpy():
            digests += hashlib.blake2b(row, digest_size=16).digest()
    return np.frombuffer(bytes(digests), dtype="V16")
