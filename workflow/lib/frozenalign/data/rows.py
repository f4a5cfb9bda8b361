"""Embedding files as rows: opened without loading them, and read in chunks.

Rows are read with plain file reads, not through a memory map: mapped pages count as the process's own memory, so that
a pass over an 11 GB file would look like 11 GB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.archive_records import ArchiveKind, record_start
from frozenalign.data.archives import open_archive
from frozenalign.system.errors import UserError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CHUNK_BYTES = 2 << 20
MAX_WIDTH = 1 << 20
# Rows that begin no further apart come from one read: a second one takes about as long as what lies between them.
NEAR_BYTES = 64 << 10
WRITE_AGAIN = "save one plain tensor with torch.save"
EMBEDDINGS = ArchiveKind(
    description_bytes=64 << 10,
    verified=False,
    missing="check `dir` in the configuration, or write the embeddings there",
    foreign="holds Python objects or is damaged",
    otherwise=WRITE_AGAIN,
)


class Rows:
    """A (rows, width) matrix on a disk, read in pieces; what derives from it fills tensors with rows, by `fill`.

    path: the file, or the first of several.
    """

    path: Path
    rows: int
    width: int
    dtype: torch.dtype

    @property
    def where(self) -> str:
        """Return what messages call the rows."""
        return str(self.path)

    @property
    def row_bytes(self) -> int:
        """Return the size of a row in bytes."""
        return self.width * self.dtype.itemsize

    def fill(self, rows: Tensor, start: int) -> Tensor:
        """Read rows start to start + len(rows) - 1 into a tensor of `dtype`, and return it."""
        raise NotImplementedError

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start to stop - 1 as a new tensor (stop - start, width) in the file's number format."""
        return self.fill(self.buffer(stop - start), start)

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield (first row, rows) over the whole file, about 2 MB at a time."""
        step = max(1, CHUNK_BYTES // self.row_bytes)
        for start in range(0, self.rows, step):
            yield start, self.read(start, min(start + step, self.rows))

    def select(self, rows: np.ndarray, chunk_bytes: int = CHUNK_BYTES) -> Iterator[tuple[slice, Tensor]]:
        """Yield (place in `rows`, those rows) for ascending row numbers, at most chunk_bytes of the file at a time.

        The caller may change the tensor; the next one reuses its memory, because new memory for each costs more than
        reading it.
        """
        step = max(1, chunk_bytes // self.row_bytes)
        chunk, chosen = self.buffer(step), self.buffer(step)
        position = 0
        while position < len(rows):
            start = int(rows[position])
            end = int(np.searchsorted(rows, start + step))
            here = self.fill(chunk[: int(rows[end - 1]) + 1 - start], start)
            if end - position < len(here):
                wanted = torch.from_numpy(rows[position:end] - start)
                here = torch.index_select(here, 0, wanted, out=chosen[: len(wanted)])
            yield slice(position, end), here
            position = end

    def gather(self, rows: np.ndarray) -> Tensor:
        """Return the given rows (len(rows), width), in any order and however often, each read once."""
        wanted, place = np.unique(rows, return_inverse=True)
        read = self.take(wanted)
        return read if np.array_equal(wanted, rows) else read[torch.from_numpy(place)]

    def take(self, rows: np.ndarray) -> Tensor:
        """Return ascending rows (len(rows), width) as a new tensor: neighbours in one read, and no others."""
        taken = self.buffer(len(rows))
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        for start, stop in pairwise([*starts.tolist(), len(rows)]):
            self.fill(taken[start:stop], int(rows[start]))
        return taken

    def batches(self, rows: np.ndarray, batch_bytes: int = CHUNK_BYTES) -> Iterator[tuple[slice, Tensor]]:
        """Yield (place in `rows`, those rows) for ascending row numbers, about batch_bytes of rows at a time.

        Rows near each other come from one read, with what lies between them. The caller may change the tensor; the
        next one reuses its memory.
        """
        size, grid, near = (max(1, total // self.row_bytes) for total in (batch_bytes, CHUNK_BYTES, NEAR_BYTES))
        taken, read = self.buffer(size), self.buffer(grid)
        apart = (np.diff(rows) > near) | (np.diff(rows // grid) > 0)
        reads = np.union1d(np.flatnonzero(apart) + 1, np.arange(0, len(rows), size)).tolist()
        for start, stop in pairwise([*reads, len(rows)]):
            place = start % size
            self._fill_near(taken[place : place + stop - start], rows[start:stop], read)
            if stop % size == 0 or stop == len(rows):
                yield slice(start - place, stop), taken[: place + stop - start]

    def _fill_near(self, taken: Tensor, rows: np.ndarray, read: Tensor) -> None:
        """Read ascending rows into `taken` (len(rows), width); those between them go into `read` as well."""
        first, span = int(rows[0]), int(rows[-1] - rows[0]) + 1
        if span == len(rows):
            self.fill(taken, first)
        else:
            torch.index_select(self.fill(read[:span], first), 0, torch.from_numpy(rows - first), out=taken)

    def buffer(self, rows: int) -> Tensor:
        """Return an uninitialised tensor for so many rows."""
        return torch.empty(rows, self.width, dtype=self.dtype)


@dataclass(frozen=True)
class RowFile(Rows):
    """A (rows, width) matrix that is stored uncompressed in a file, row after row, from byte `offset` on.

    storage: the bytes of the file that hold the tensor. checksum: CRC-32 written with them, 0 if it was left out.
    """

    path: Path
    offset: int
    rows: int
    width: int
    dtype: torch.dtype
    storage: slice
    checksum: int

    def fill(self, rows: Tensor, start: int) -> Tensor:
        """Read rows start to start + len(rows) - 1 into a tensor of `dtype`, and return it."""
        try:
            count = _read_into(rows, self.path, self.offset + start * self.row_bytes)
        except OSError as error:
            where = f"rows {start} to {start + len(rows) - 1}"
            raise UserError(
                f"{self.path}: {where} cannot be read ({error.strerror}): check the disk, or copy the file again"
            ) from error
        if count < rows.nbytes:
            raise UserError(f"{self.path} ends before row {start + len(rows)}: it was cut off; copy or write it again")
        return rows


def _read_into(rows: Tensor, path: Path, offset: int) -> int:
    """Read as many bytes of a file as rows have, without a buffer between, and return how many there were."""
    content, count = memoryview(rows.view(torch.uint8).numpy()).cast("B"), 0
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while count < len(content) and (more := stream.readinto(content[count:])):
            count += more
    return count


def open_rows(path: str | Path) -> RowFile:
    """Open a .pt file that holds one 2-D float tensor, reading only its header."""
    path = Path(path)
    tensor, records = open_archive(path, EMBEDDINGS, "meta")
    _refuse_other_tensors(path, tensor)
    storages = [record for record in records if "/data/" in record.filename]
    if len(storages) != 1:
        raise UserError(f"{path} has {len(storages)} storages where one tensor has one: {WRITE_AGAIN}")
    if tensor.untyped_storage().nbytes() > storages[0].file_size:
        raise UserError(f"{path} {EMBEDDINGS.foreign}: {EMBEDDINGS.otherwise}")
    start = record_start(path, storages[0])
    storage = slice(start, start + storages[0].file_size)
    offset = start + tensor.storage_offset() * tensor.element_size()
    file = RowFile(path, offset, *tensor.shape, tensor.dtype, storage, storages[0].CRC)
    if offset + file.rows * file.row_bytes > storage.stop:
        raise UserError(f"{path} ends before row {file.rows}: it was cut off; copy or write it again")
    return file


def _refuse_other_tensors(path: Path, tensor: object) -> None:
    """Refuse all but a dense (rows, width) float matrix with its values in the file."""
    if not isinstance(tensor, Tensor):
        raise UserError(f"{path} holds a {type(tensor).__name__}: {WRITE_AGAIN}")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "meta":
        raise UserError(f"{path} holds a sparse, nested, quantised or empty tensor: save it as a dense one")
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise UserError(f"{path} holds a tensor of shape {tuple(tensor.shape)}: save one of shape (rows, width)")
    if tensor.shape[1] > MAX_WIDTH:
        raise UserError(f"{path} has rows of {tensor.shape[1]} numbers: save at most {MAX_WIDTH} per row")
    if tensor.dtype not in DTYPES:
        raise UserError(f"{path} holds {str(tensor.dtype).removeprefix('torch.')}: save float32, float16 or bfloat16")
    if not tensor.is_contiguous() or tensor.is_neg():
        raise UserError(f"{path} holds a strided view: save tensor.contiguous()")
