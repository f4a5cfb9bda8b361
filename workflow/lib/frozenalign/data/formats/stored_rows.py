"""The rows of an embedding file in any form: what its header says, and its numbers in chunks; without PyTorch."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from frozenalign.system.errors import UserError, one_line

CHUNK_BYTES = 2 << 20
MAX_WIDTH = 1 << 20
# How chunks hold the numbers of each format; NumPy has no bfloat16, whose bits are taken as integers.
STORED = {
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}
# Arrays and columns in which a file may have the image ids of its rows.
ID_NAMES = ("image_ids", "image_id", "image_path", "uid", "key", "ids", "id")


@dataclass(frozen=True)
class StoredRows:
    """The (rows, width) matrix of a file.

    number: the format of its numbers, a key of STORED. chunks: yields consecutive rows (n, width), as STORED holds
    them. ids: returns the image id of each row, where the file has them. notes: what is said of a form that is taken
    though it is not a plain matrix.
    """

    path: Path
    rows: int
    width: int
    number: str
    chunks: Callable[[], Iterator[np.ndarray]] = field(repr=False)
    ids: Callable[[], list[str]] | None = None
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Return the size of the numbers in bytes."""
        return self.rows * self.width * STORED[self.number].itemsize


def number_format(dtype: np.dtype, where: str) -> str:
    """Return the name of a NumPy number format in any byte order; all but three float formats are refused."""
    if dtype.hasobject:
        raise UserError(f"{where} holds Python objects: save an array of numbers")
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise UserError(f"{where} holds {dtype.name}: save float32, float16, bfloat16 or float64")
    return f"float{8 * dtype.itemsize}"


def matrix_shape(shape: Sequence[int], where: str) -> tuple[int, int, tuple[str, ...]]:
    """Return the rows and the width of an array of shape (N, D) or (N, 1, D), and what is said of it."""
    notes = ()
    if len(shape) == 3 and shape[1] == 1:
        notes = (f"{where} has the shape {tuple(shape)}: taken as ({shape[0]}, {shape[2]})",)
        shape = (shape[0], shape[2])
    if len(shape) != 2 or 0 in shape:
        raise UserError(f"{where} has the shape {tuple(shape)}: save one of shape (rows, width)")
    if shape[1] > MAX_WIDTH:
        raise UserError(f"{where} has rows of {shape[1]} numbers: save at most {MAX_WIDTH} per row")
    return int(shape[0]), int(shape[1]), notes


def opened_chunks(
    opened: Callable[[], BinaryIO], shape: tuple[int, int], dtype: np.dtype, checksum: int = 0
) -> Iterator[np.ndarray]:
    """Yield the chunks of `stream_chunks`. opened: opens a stream that stands where the matrix begins."""
    with opened() as stream:
        yield from stream_chunks(stream, shape, dtype, checksum)


def stream_chunks(stream: BinaryIO, shape: tuple[int, int], dtype: np.dtype, checksum: int = 0) -> Iterator[np.ndarray]:
    """Yield the rows of a C-ordered matrix that begins here, about CHUNK_BYTES at a time, in little-endian order.

    checksum: CRC-32 of its bytes, 0 if there is none.
    """
    rows, width = shape
    step = rows_at_once(width, dtype)
    found = 0
    for start in range(0, rows, step):
        count = min(step, rows - start)
        wanted = count * width * dtype.itemsize
        content = stream.read(wanted)
        if len(content) < wanted:
            raise EOFError(f"it ends before row {start + count}")
        found = zlib.crc32(content, found) if checksum else 0
        yield as_stored(np.frombuffer(content, dtype=dtype).reshape(count, width))
    if found != checksum:
        raise ValueError("its bytes do not match their checksum")


def standing_at(path: Path, offset: int) -> BinaryIO:
    """Open a file that stands at byte `offset`."""
    stream = path.open("rb")
    stream.seek(offset)
    return stream


def rows_at_once(width: int, dtype: np.dtype) -> int:
    """Return how many rows make a chunk."""
    return max(1, CHUNK_BYTES // (width * dtype.itemsize))


def as_stored(rows: np.ndarray) -> np.ndarray:
    """Return rows in little-endian order and C order."""
    return np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder("<"), copy=False))


def chosen(names: Mapping[str, Sequence[int]], name: str | None, path: Path, what: str) -> str:
    """Return the array of a file to take: the named one, else the only one with more than one dimension.

    names: the shape of each array. what: array, tensor, column or data set, for messages.
    """
    listed = ", ".join(one_line(each) for each in list(names)[:8])
    if name is not None:
        if name not in names:
            raise UserError(f"{path} has no {what} {name!r}: it has {listed or 'none'}; correct the name after `::`")
        return name
    matrices = [each for each, shape in names.items() if len(shape) > 1]
    if len(matrices) != 1:
        raise UserError(
            f"{path} has {len(matrices)} {what}s with rows ({listed or 'none'}): name one of them, as in "
            f"`{path}::{matrices[0] if matrices else 'NAME'}`"
        )
    return matrices[0]


def id_name(names: Sequence[str]) -> str | None:
    """Return which of these arrays or columns holds the image ids, if any."""
    return next((name for name in ID_NAMES if name in names), None)


def ids_as_text(values: Sequence[object], where: str) -> list[str]:
    """Return ids as text, given whole numbers or text; others are refused with their row."""
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, (int, str, np.integer)) or value == "":
            raise UserError(f"{where}: row {row} has no image id: write a whole number or text for every row")
    return [str(value) for value in values]
