"""Embedding files as rows: opened without loading them, read in chunks, checked row by row.

Rows are read with plain file reads, not through a memory map: pages of a map count as the process's own memory, so
that a pass over an 11 GB file would look like 11 GB.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.archives import ArchiveKind, open_archive, record_start
from frozenalign.system.errors import UserError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CHUNK_BYTES = 2 << 20
MAX_WIDTH = 1 << 20
WRITE_AGAIN = "save one plain tensor with torch.save"
EMBEDDINGS = ArchiveKind(
    description_bytes=64 << 10,
    verified=False,
    missing="check `dir` in the configuration, or write the embeddings there",
    foreign="holds Python objects or is damaged",
    otherwise=WRITE_AGAIN,
)


@dataclass(frozen=True)
class Record:
    """Where a storage stands in its archive, in bytes, and the checksum that was written with it, 0 for none."""

    start: int
    stop: int
    checksum: int


@dataclass(frozen=True)
class RowFile:
    """A (rows, width) matrix that stands uncompressed in a file, row after row, from byte `offset` on."""

    path: Path
    offset: int
    rows: int
    width: int
    dtype: torch.dtype
    record: Record

    @property
    def row_bytes(self) -> int:
        """Return the size of a row in bytes."""
        return self.width * self.dtype.itemsize

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start to stop - 1 as a new tensor (stop - start, width) in the file's number format."""
        return self._fill(self._buffer(stop - start), start)

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield (first row, rows) over the whole file, some 2 MB at a time."""
        step = max(1, CHUNK_BYTES // self.row_bytes)
        for start in range(0, self.rows, step):
            yield start, self.read(start, min(start + step, self.rows))

    def select(self, rows: np.ndarray, chunk_bytes: int = CHUNK_BYTES) -> Iterator[tuple[slice, Tensor]]:
        """Yield (place in `rows`, those rows) for ascending row numbers, at most chunk_bytes of the file at a time.

        The tensor is the caller's to change and stands until the next one is asked for: new memory for each would cost
        more than reading it.
        """
        step = max(1, chunk_bytes // self.row_bytes)
        chunk, chosen = self._buffer(step), self._buffer(step)
        position = 0
        while position < len(rows):
            start = int(rows[position])
            end = int(np.searchsorted(rows, start + step))
            here = self._fill(chunk[: int(rows[end - 1]) + 1 - start], start)
            if end - position < len(here):
                wanted = torch.from_numpy(rows[position:end] - start)
                here = torch.index_select(here, 0, wanted, out=chosen[: len(wanted)])
            yield slice(position, end), here
            position = end

    def _buffer(self, rows: int) -> Tensor:
        return torch.empty(rows, self.width, dtype=self.dtype)

    def _fill(self, rows: Tensor, start: int) -> Tensor:
        try:
            with self.path.open("rb", buffering=0) as stream:
                stream.seek(self.offset + start * self.row_bytes)
                whole = _read_into(stream, memoryview(rows.view(torch.uint8).numpy()).cast("B"))
        except OSError as error:
            where = f"rows {start} to {start + len(rows) - 1}"
            raise UserError(
                f"{self.path}: {where} cannot be read ({error.strerror}): check the disk, or copy the file again"
            ) from error
        if not whole:
            raise UserError(f"{self.path} ends before row {start + len(rows)}: it was cut off; copy or write it again")
        return rows


@dataclass(frozen=True)
class AveragedRows:
    """The rows of a file in which some stand for several: such a row is read as the mean of itself and further ones.

    first: (k,) ascending row numbers. further: (k,) a row that row `first` is averaged with.
    """

    file: RowFile
    first: np.ndarray
    further: np.ndarray

    @property
    def path(self) -> Path:
        """Return the path of the file."""
        return self.file.path

    @property
    def rows(self) -> int:
        """Return the number of rows of the file."""
        return self.file.rows

    @property
    def width(self) -> int:
        """Return the number of dimensions."""
        return self.file.width

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start to stop - 1, averaged, as a new tensor (stop - start, width)."""
        rows = self.file.read(start, stop)
        self._average(np.arange(start, stop), rows)
        return rows

    def select(self, rows: np.ndarray, chunk_bytes: int = CHUNK_BYTES) -> Iterator[tuple[slice, Tensor]]:
        """Yield (place in `rows`, those rows, averaged) for ascending row numbers, as RowFile.select does."""
        for where, chunk in self.file.select(rows, chunk_bytes):
            self._average(rows[where], chunk)
            yield where, chunk

    def _average(self, rows: np.ndarray, chunk: Tensor) -> None:
        """Replace the rows (n, width) of these ascending numbers by the means that they stand for."""
        begin, end = np.searchsorted(self.first, [rows[0], rows[-1] + 1])
        asked = np.isin(self.first[begin:end], rows)
        first, further = self.first[begin:end][asked], self.further[begin:end][asked]
        if not len(first):
            return
        in_file = np.argsort(further, kind="stable")
        place = torch.from_numpy(np.searchsorted(rows, first[in_file]))
        means, counts = chunk.float(), 1 + torch.bincount(place, minlength=len(chunk))
        for where, more in self.file.select(further[in_file]):
            means.index_add_(0, place[where], more.float())
        averaged = counts > 1
        chunk[averaged] = (means[averaged] / counts[averaged, None]).to(chunk.dtype)


def _read_into(stream: RawIOBase, view: memoryview) -> bool:
    """Fill the view from the stream; return False where the stream ends before."""
    while len(view):
        count = stream.readinto(view)
        if not count:
            return False
        view = view[count:]
    return True


def open_rows(path: str | Path) -> RowFile:
    """Open a .pt file that holds one 2-D float tensor, reading nothing but its header."""
    path = Path(path)
    tensor, records = open_archive(path, EMBEDDINGS)
    _refuse_other_tensors(path, tensor)
    record = _storage_record(path, records)
    offset = record.start + tensor.storage_offset() * tensor.element_size()
    file = RowFile(path, offset, tensor.shape[0], tensor.shape[1], tensor.dtype, record)
    if offset + file.rows * file.row_bytes > record.stop:
        raise UserError(f"{path} ends before row {file.rows}: it was cut off; copy or write it again")
    return file


def _refuse_other_tensors(path: Path, tensor: object) -> None:
    """Refuse all but a dense (rows, width) float matrix with its values in the file."""
    if not isinstance(tensor, Tensor):
        raise UserError(f"{path} holds a {type(tensor).__name__}: {WRITE_AGAIN}")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
        raise UserError(f"{path} holds a sparse, nested, quantised or empty tensor: save it as a dense one")
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise UserError(f"{path} holds a tensor of shape {tuple(tensor.shape)}: save one of shape (rows, width)")
    if tensor.shape[1] > MAX_WIDTH:
        raise UserError(f"{path} has rows of {tensor.shape[1]} numbers: save at most {MAX_WIDTH} a row")
    if tensor.dtype not in DTYPES:
        raise UserError(f"{path} holds {_dtype_name(tensor.dtype)}: save float32, float16 or bfloat16")
    if not tensor.is_contiguous() or tensor.is_neg():
        raise UserError(f"{path} holds a strided view: save tensor.contiguous()")


def _storage_record(path: Path, records: list[zipfile.ZipInfo]) -> Record:
    """Return where the one storage of an archive stands: torch.save stores it uncompressed."""
    storages = [entry for entry in records if "/data/" in entry.filename]
    if len(storages) != 1:
        raise UserError(f"{path} has {len(storages)} storages where one tensor has one: {WRITE_AGAIN}")
    start = record_start(path, storages[0])
    return Record(start, start + storages[0].file_size, storages[0].CRC)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
