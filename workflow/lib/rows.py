"""Embedding files as rows: opened without loading them, read in chunks, checked row by row.

Rows are read with plain file reads, not through a memory map: pages of a map count as the process's own memory, so
that a pass over an 11 GB file would look like 11 GB.
"""

import hashlib
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import Tensor

from workflow.lib.errors import UserError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CHUNK_BYTES = 2 << 20
SHOWN_ROWS = 5


@dataclass(frozen=True)
class RowFile:
    """A (rows, width) matrix that stands uncompressed in a file, row after row, from byte `offset` on."""

    path: Path
    offset: int
    rows: int
    width: int
    dtype: torch.dtype

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
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(self.offset + start * self.row_bytes)
            view = memoryview(rows.view(torch.uint8).numpy()).cast("B")
            while len(view):
                count = stream.readinto(view)
                if not count:
                    raise UserError(
                        f"{self.path} ends before row {start + len(rows)}: it was cut off; copy or write it again"
                    )
                view = view[count:]
        return rows


def open_rows(path: str | Path) -> RowFile:
    """Open a .pt file that holds one 2-D float tensor, reading nothing but its header."""
    path = Path(path)
    tensor = _mapped_tensor(path)
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise UserError(f"{path} holds a tensor of shape {tuple(tensor.shape)}: save one of shape (rows, width)")
    if tensor.dtype not in DTYPES:
        raise UserError(f"{path} holds {_dtype_name(tensor.dtype)}: save float32, float16 or bfloat16")
    if not tensor.is_contiguous():
        raise UserError(f"{path} holds a strided view: save tensor.contiguous()")
    offset = _storage_offset(path) + tensor.storage_offset() * tensor.element_size()
    return RowFile(path, offset, tensor.shape[0], tensor.shape[1], tensor.dtype)


def _mapped_tensor(path: Path) -> Tensor:
    if not path.is_file():
        raise UserError(f"{path} not found: check `dir` in the configuration, or write the embeddings there")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is not a complete .pt archive (cut off, or PyTorch before 1.6): write it with torch.save"
        )
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} holds Python objects or is damaged: save one plain tensor with torch.save") from error
    if not isinstance(content, Tensor) or content.layout != torch.strided or content.is_quantized:
        raise UserError(f"{path} holds a {type(content).__name__}: save one plain dense tensor with torch.save")
    return content


def _storage_offset(path: Path) -> int:
    """Return the byte at which the tensor's storage begins in the archive: torch.save stores it uncompressed."""
    with zipfile.ZipFile(path) as archive:
        entry = next(item for item in archive.infolist() if item.filename.endswith("data/0"))
    if entry.compress_type != zipfile.ZIP_STORED:
        raise UserError(f"{path} is a compressed archive: write it with torch.save")
    with path.open("rb") as stream:
        stream.seek(entry.header_offset + 26)
        name_bytes, extra_bytes = struct.unpack("<HH", stream.read(4))
    return entry.header_offset + 30 + name_bytes + extra_bytes


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_rows(file: RowFile) -> str:
    """Read a file once and return its SHA-256; NaN, infinite and all-zero rows are refused, the first ones named."""
    content = hashlib.sha256(_read_bytes(file.path, 0, file.offset))
    bad: dict[str, list[int]] = {"NaN or infinite": [], "all-zero": []}
    for start, rows in file.chunks():
        content.update(rows.view(torch.uint8).numpy())
        squares = rows.float().square().sum(1)
        doubtful = torch.nonzero(~(squares.isfinite() & (squares > 0))).flatten()
        exact = rows[doubtful]
        bad["NaN or infinite"] += (doubtful[~exact.isfinite().all(1)] + start).tolist()
        bad["all-zero"] += (doubtful[(exact == 0).all(1)] + start).tolist()
    content.update(_read_bytes(file.path, file.offset + file.rows * file.row_bytes, None))
    for problem, numbers in bad.items():
        if numbers:
            raise UserError(
                f"{file.path} has {len(numbers)} {problem} rows (first: {', '.join(map(str, numbers[:SHOWN_ROWS]))}): "
                "encode these inputs again, or leave their pairs out"
            )
    return content.hexdigest()


def row_digests(file: RowFile) -> np.ndarray:
    """Return a 16-byte digest of every row's content, (rows,): equal digests mean bit-identical rows."""
    digests = bytearray()
    for _, rows in file.chunks():
        for row in rows.view(torch.uint8).numpy():
            digests += hashlib.blake2b(row, digest_size=16).digest()
    return np.frombuffer(bytes(digests), dtype="V16")


def _read_bytes(path: Path, start: int, stop: int | None) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(-1 if stop is None else stop - start)
