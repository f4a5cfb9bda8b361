"""Every row of an embedding file read once; rows that cannot be embeddings are refused, and the first ones named."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.rows import RowFile
from frozenalign.system.checksums import Checksum
from frozenalign.system.errors import UserError
from frozenalign.system.products import blocks
from frozenalign.system.threads import one_thread

# A piece stays in the cache of a core while it is read, hashed and checked there; two threads would take a seventh more
# processor time.
PIECE_BYTES = 1 << 20
SHOWN_ROWS = 5
# Bytes of the integers that rows are compared as.
LARGEST_INTEGER = 8
# Lengths of embeddings of one encoder differ by a few times. A far longer one dominates every mean and scale.
LONG_RATIO, LONGEST_RATIO, SHORTEST_RATIO = 30.0, 1e3, 1e-4
# Squares of all lengths between these are float32 numbers.
SHORTEST, LONGEST = 1e-12, 1e12
REMEDY = "encode these inputs again, or leave their pairs out"


@dataclass(frozen=True)
class CheckedRows:
    """What one reading of a file has found: its SHA-256, whether all rows are equal, and warnings about single rows."""

    sha256: str
    equal: bool
    warnings: list[str]


def check_rows(file: RowFile, digests: "RowDigests | None" = None) -> CheckedRows:
    """Read a file once, and add its rows to `digests`.

    Refused are NaN, infinite and all-zero rows, rows far longer or shorter than the others, and bytes that do not match
    the checksum that was written with them.
    """
    digest, rows = _Digest(file), _RowChecks(file, digests)
    digest.read(file.offset)
    buffer = file.buffer(max(1, PIECE_BYTES // file.row_bytes))
    with one_thread():
        for part in blocks(file.rows, len(buffer)):
            piece = file.fill(buffer[: part.stop - part.start], part.start)
            digest.update(piece.view(torch.uint8).numpy().data)
            rows.add(part, piece)
    digest.read(file.path.stat().st_size)
    rows.refuse_no_embeddings()
    if digest.damaged:
        raise UserError(
            f"{file.path} is damaged: bytes {file.storage.start} to {file.storage.stop} do not match their checksum; "
            "copy or write it again, without checksums (torch.serialization.set_crc32_options) to fill it in place"
        )
    return CheckedRows(digest.sha256.hexdigest(), rows.equal, _length_warnings(file.path, rows.lengths))


class _RowChecks:
    """The lengths (rows,) of the rows of a file that come piece by piece, and whether all are equal."""

    def __init__(self, file: RowFile, digests: "RowDigests | None") -> None:
        self.path, self.digests = file.path, digests
        self.lengths = torch.empty(file.rows, dtype=torch.float64)
        self.first, self.equal = file.read(0, 1), True

    def add(self, part: slice, rows: Tensor) -> None:
        """Take in the rows of a part, (n, width)."""
        # Float32 squares may be beyond float32. In float64 the length of any finite row is finite, and that of any row
        # but zero is above zero.
        length = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32)
        self.lengths[part] = length
        # Both are NaN if a length is.
        shortest, longest = map(float, length.aminmax())
        if not (shortest > SHORTEST and longest < math.inf):
            doubtful = ~(length.isfinite() & (length > SHORTEST))
            self.lengths[part][doubtful] = rows[doubtful].double().norm(dim=1)
        self.equal = self.equal and bool((rows == self.first).all())
        if self.digests is not None:
            self.digests.add(rows)

    def refuse_no_embeddings(self) -> None:
        """Refuse NaN, infinite and all-zero rows."""
        for problem, wrong in (("NaN or infinite", ~self.lengths.isfinite()), ("all-zero", self.lengths == 0)):
            if len(numbers := torch.nonzero(wrong).flatten()):
                shown = ", ".join(map(str, numbers[:SHOWN_ROWS].tolist()))
                raise UserError(f"{self.path} has {len(numbers)} {problem} rows (first: {shown}): {REMEDY}")


def _length_warnings(path: Path, lengths: Tensor) -> list[str]:
    """Return a warning about very long rows, given the lengths of all (rows,); absurd lengths are refused."""
    median = float(lengths.median())
    low, high = max(SHORTEST, median * SHORTEST_RATIO), min(LONGEST, median * LONGEST_RATIO)
    absurd = torch.nonzero(~((lengths >= low) & (lengths <= high))).flatten()
    if len(absurd):
        raise UserError(
            f"{path} has {len(absurd)} rows whose length is absurd (first: {_first(absurd, lengths)}; the median is "
            f"{median:.3g}, allowed are lengths from {low:.3g} to {high:.3g}): {REMEDY}"
        )
    long = torch.nonzero(lengths > LONG_RATIO * median).flatten()
    if not len(long):
        return []
    return [
        f"{path.name} has {len(long)} rows more than {LONG_RATIO:.0f} times as long as the median, {median:.3g} "
        f"(first: {_first(long, lengths)}), which dominate means and scales: {REMEDY}"
    ]


def _first(rows: Tensor, lengths: Tensor) -> str:
    return ", ".join(f"row {row} of length {float(lengths[row]):.3g}" for row in rows[:SHOWN_ROWS].tolist())


class _Digest:
    """The SHA-256 of a file that is read from start to end, and the CRC-32 of the bytes that hold its tensor.

    A file that was written without a CRC-32 has none.
    """

    def __init__(self, file: RowFile) -> None:
        self.file, self.sha256, self.checksum, self.position = file, hashlib.sha256(), Checksum(), 0

    @property
    def damaged(self) -> bool:
        """Return whether the bytes that hold the tensor are others than those that were written."""
        return bool(self.file.checksum) and self.checksum.value() != self.file.checksum

    def read(self, stop: int) -> None:
        """Take in the bytes up to `stop`."""
        with self.file.path.open("rb") as stream:
            stream.seek(self.position)
            while self.position < stop and (piece := stream.read(min(stop - self.position, PIECE_BYTES))):
                self.update(memoryview(piece))

    def update(self, piece: memoryview) -> None:
        """Take in the bytes that follow."""
        piece, storage = piece.cast("B"), self.file.storage
        self.sha256.update(piece)
        if self.file.checksum:
            inside = piece[max(0, storage.start - self.position) : max(0, storage.stop - self.position)]
            self.checksum.update(inside)
        self.position += len(piece)


def row_digests(chunks: Iterable[Tensor]) -> np.ndarray:
    """Return a 16-byte digest of every row of chunks (b, width), (rows,): equal digests mean bit-identical rows."""
    digests = RowDigests()
    for rows in chunks:
        digests.add(rows)
    return digests.found()


class RowDigests:
    """A 16-byte digest of every row of chunks that are added: equal digests mean bit-identical rows.

    The rows of one image mostly follow each other: a row that is bit-identical to the one before is not hashed.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._hashed = bytearray()
        self._new: list[np.ndarray] = []

    def add(self, rows: Tensor) -> None:
        """Take in rows (n, width)."""
        content = rows.view(torch.uint8).numpy()
        bits = content.view(f"u{math.gcd(content.shape[1], LARGEST_INTEGER)}")
        new = np.ones(len(bits), dtype=bool)
        new[1:] = (bits[1:] != bits[:-1]).any(1)
        new[0] = self._last is None or bool((bits[0] != self._last).any())
        for row in bits[new]:
            self._hashed += hashlib.blake2b(row, digest_size=16).digest()
        self._last = bits[-1].copy()
        self._new.append(new)

    def found(self) -> np.ndarray:
        """Return the digests of all rows, (rows,)."""
        hashed = np.frombuffer(bytes(self._hashed), dtype="V16")
        new = np.concatenate(self._new) if self._new else np.zeros(0, dtype=bool)
        return hashed[np.cumsum(new) - 1]
