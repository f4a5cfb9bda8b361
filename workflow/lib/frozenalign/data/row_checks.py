"""Every row of an embedding file read once; rows that cannot be embeddings are refused, and the first ones named."""

import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.rows import CHUNK_BYTES, RowFile
from frozenalign.system.errors import UserError

SHOWN_ROWS = 5
# Lengths of embeddings of one encoder differ by a few times. A far longer one dominates every mean and scale.
LONG_RATIO, LONGEST_RATIO, SHORTEST_RATIO = 30.0, 1e3, 1e-4
# Squares of all lengths between these are float32 numbers.
SHORTEST, LONGEST = 1e-12, 1e12
REMEDY = "encode these inputs again, or leave their pairs out"


def check_rows(file: RowFile) -> tuple[str, bool, list[str]]:
    """Read a file once; return its SHA-256, whether all rows are equal, and warnings about single rows.

    Refused are NaN, infinite and all-zero rows, rows far longer or shorter than the others, and bytes that do not match
    the checksum that was written with them.
    """
    digest = _Digest(file)
    lengths = torch.empty(file.rows, dtype=torch.float64)
    first, equal = file.read(0, 1), True
    digest.read(file.offset)
    for start, rows in file.chunks():
        digest.update(rows.view(torch.uint8).numpy().data)
        squares = rows.float().square().sum(1)
        doubtful = ~(squares.isfinite() & (squares > SHORTEST**2))
        length = squares.double().sqrt()
        # In float64 the length of any finite row is finite, and that of any row but zero is above zero.
        length[doubtful] = rows[doubtful].double().norm(dim=1)
        lengths[start : start + len(rows)] = length
        equal = equal and bool((rows == first).all())
    digest.read(file.path.stat().st_size)
    for problem, wrong in (("NaN or infinite", ~lengths.isfinite()), ("all-zero", lengths == 0)):
        if len(numbers := torch.nonzero(wrong).flatten()):
            shown = ", ".join(map(str, numbers[:SHOWN_ROWS].tolist()))
            raise UserError(f"{file.path} has {len(numbers)} {problem} rows (first: {shown}): {REMEDY}")
    if file.checksum not in (0, digest.checksum):
        raise UserError(
            f"{file.path} is damaged: bytes {file.storage.start} to {file.storage.stop} do not match their checksum; "
            "copy or write it again, without checksums (torch.serialization.set_crc32_options) to fill it in place"
        )
    return digest.sha256.hexdigest(), equal, _length_warnings(file.path, lengths)


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
    """The SHA-256 of a file that is read from start to end, and the CRC-32 of the bytes that hold its tensor."""

    def __init__(self, file: RowFile) -> None:
        self.file, self.sha256, self.checksum, self.position = file, hashlib.sha256(), 0, 0

    def read(self, stop: int) -> None:
        """Take in the bytes up to `stop`, about 2 MB at a time."""
        with self.file.path.open("rb") as stream:
            stream.seek(self.position)
            while self.position < stop and (piece := stream.read(min(stop - self.position, CHUNK_BYTES))):
                self.update(memoryview(piece))

    def update(self, piece: memoryview) -> None:
        """Take in the bytes that follow."""
        piece, storage = piece.cast("B"), self.file.storage
        self.sha256.update(piece)
        inside = piece[max(0, storage.start - self.position) : max(0, storage.stop - self.position)]
        self.checksum = zlib.crc32(inside, self.checksum)
        self.position += len(piece)


def row_digests(chunks: Iterable[Tensor]) -> np.ndarray:
    """Return a 16-byte digest of every row of chunks (b, width), (rows,): equal digests mean bit-identical rows."""
    digests = bytearray()
    for rows in chunks:
        for row in rows.view(torch.uint8).numpy():
            digests += hashlib.blake2b(row, digest_size=16).digest()
    return np.frombuffer(bytes(digests), dtype="V16")
