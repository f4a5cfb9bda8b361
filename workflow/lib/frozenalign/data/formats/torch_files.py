"""PyTorch's .pt: a tensor, a dict or a list of tensors, in any of the ways people save them; nothing in it runs."""

import functools
import itertools
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from frozenalign.data.archive_records import ArchiveKind, checked_records, record_start
from frozenalign.data.formats.registry import register_row_format
from frozenalign.data.formats.saved_tensors import SavedTensor, described
from frozenalign.data.formats.stored_rows import (
    CHUNK_BYTES,
    STORED,
    StoredRows,
    chosen,
    id_name,
    ids_as_text,
    matrix_shape,
    rows_at_once,
    stream_chunks,
)
from frozenalign.system.errors import UserError

# A list of 300,000 tensors has such a description.
KIND = ArchiveKind(
    description_bytes=64 << 20,
    verified=False,
    missing="check the configuration, or write the embeddings there",
    foreign="holds Python objects or is damaged",
    otherwise="save one plain tensor, as `torch.save(torch.as_tensor(rows), path)` does",
)
INTEGERS = np.dtype("<i8")


class _Place(NamedTuple):
    """Where a tensor lies: its first byte, and its checksum, or the record of which it is a part without one."""

    start: int
    checksum: int
    part_of: zipfile.ZipInfo | None


@dataclass(frozen=True)
class _Archive:
    """The records of a .pt file by their names below its first folder, and where those asked for begin."""

    path: Path
    records: Mapping[str, zipfile.ZipInfo]
    starts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def opened(cls, path: Path) -> "_Archive":
        """Return the complete, uncompressed archive in a file."""
        return cls(path, {record.filename.partition("/")[2]: record for record in checked_records(path, KIND)})

    def content(self) -> Any:
        """Return what the description of the archive holds."""
        with zipfile.ZipFile(self.path) as archive:
            pickled = archive.read(self.records["data.pkl"])
        try:
            return described(pickled)
        except Exception as error:
            # Damaged bytes lead to any error of the operations.
            said = f": {error}" if isinstance(error, ValueError) else ""
            raise UserError(f"{self.path} {KIND.foreign}{said}: {KIND.otherwise}") from error

    def place(self, where: str, tensor: SavedTensor, dtype: np.dtype) -> _Place:
        """Return where a contiguous tensor lies; one that claims more numbers than there are is refused."""
        record = self.records[tensor.record]
        begin = tensor.offset * dtype.itemsize
        end = begin + math.prod(tensor.size) * dtype.itemsize
        if not 0 <= begin <= end <= record.file_size:
            raise UserError(f"{where} {KIND.foreign}: it claims more numbers than there are; {KIND.otherwise}")
        if tensor.record not in self.starts:
            self.starts[tensor.record] = record_start(self.path, record)
        start = self.starts[tensor.record] + begin
        is_whole = end - begin == record.file_size
        return _Place(start, record.CRC, None) if is_whole else _Place(start, 0, record)


@register_row_format(".pth")
@register_row_format(".pt")
def read_pt(path: Path, name: str | None) -> StoredRows:
    """A tensor (N, D) or (N, 1, D), a dict with one (`PATH::NAME` where several have rows), or a list of N rows."""
    archive = _Archive.opened(path)
    content = archive.content()
    if isinstance(content, dict):
        return _from_dict(archive, content, name)
    if name is not None:
        raise UserError(f"{path} holds no tensors with names: leave out `::{name}`")
    if isinstance(content, SavedTensor):
        return _matrix(archive, str(path), content)
    if isinstance(content, list | tuple):
        return _stacked(archive, list(content))
    raise UserError(f"{path} holds a {type(content).__name__}: {KIND.otherwise}")


def is_odd(path: Path) -> bool:
    """Return whether a .pt file holds rows that this module reads, but not as the one matrix that later steps read."""
    try:
        content = _Archive.opened(path).content()
        if isinstance(content, SavedTensor) and len(content.size) == 2 and content.number != "float64":
            return False
        read_pt(path, None)
    except Exception:
        # Damage leads to any error; the split step reports what is wrong with the file.
        return False
    return True


def _from_dict(archive: _Archive, content: Mapping[Any, Any], name: str | None) -> StoredRows:
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, SavedTensor)}
    taken = chosen({key: tensor.size for key, tensor in tensors.items()}, name, archive.path, "tensor")
    rows = _matrix(archive, f"{archive.path}: {taken}", tensors[taken])
    said = () if name else (f"{archive.path} holds a dict: its tensor {taken!r} is taken",)
    beside = {key: value for key, value in content.items() if key != taken and _may_be_ids(value)}
    ids = id_name(list(beside))
    found = functools.partial(_ids, archive, ids, beside[ids]) if ids else None
    return StoredRows(archive.path, rows.rows, rows.width, rows.number, rows.chunks, found, (*rows.notes, *said))


def _may_be_ids(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, SavedTensor) and len(value.size) == 1)


def _ids(archive: _Archive, name: str, value: Any) -> list[str]:
    where = f"{archive.path}: {name}"
    if isinstance(value, SavedTensor):
        if value.number != "int64" or not value.is_contiguous:
            raise UserError(f"{where} holds {value.number}: save ids as whole numbers (int64) or text")
        chunks = _chunks(archive.path, [archive.place(where, value, INTEGERS)], (value.size[0], 1), INTEGERS)
        value = [each for chunk in chunks for each in chunk[:, 0].tolist()]
    return ids_as_text(value, where)


def _matrix(archive: _Archive, where: str, tensor: SavedTensor) -> StoredRows:
    dtype = _dtype(where, tensor)
    rows, width, notes = matrix_shape(tensor.size, where)
    place = archive.place(where, tensor, dtype)
    chunks = functools.partial(_chunks, archive.path, [place], (rows, width), dtype)
    return StoredRows(archive.path, rows, width, tensor.number, chunks, None, (*notes, *_notes(where, tensor)))


def _stacked(archive: _Archive, tensors: list[Any]) -> StoredRows:
    """Return the rows of a list of tensors of shape (D,) or (1, D)."""
    path, first = archive.path, tensors[0] if tensors else None
    if not first or not all(isinstance(tensor, SavedTensor) for tensor in tensors):
        raise UserError(f"{path} holds a list that is not of tensors alone: {KIND.otherwise}")
    for number, tensor in enumerate(tensors):
        width = tensor.size[-1] if tensor.size else 0
        if tensor.size not in ((width,), (1, width)) or (width, tensor.number) != (first.size[-1], first.number):
            raise UserError(
                f"{path} holds a list whose tensor {number} has the shape {tensor.size} in {tensor.number}, the first "
                f"{first.size} in {first.number}: save one row for each entry, then "
                f'`torch.save(torch.stack(list(rows)), "{path.name}")`'
            )
    rows, width, _ = matrix_shape((len(tensors), first.size[-1]), str(path))
    named = ((f"{path}: tensor {number}", tensor) for number, tensor in enumerate(tensors))
    places = [archive.place(where, tensor, _dtype(where, tensor)) for where, tensor in named]
    chunks = functools.partial(_chunks, path, places, (1, width), STORED[first.number])
    notes = (f"{path} holds a list of {rows} tensors: taken as rows", *_notes(str(path), first))
    return StoredRows(path, rows, width, first.number, chunks, None, notes)


def _chunks(path: Path, places: list[_Place], shape: tuple[int, int], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield the rows of matrices of one shape; single rows are put together into chunks."""
    _compare_checksums(path, {place.part_of.filename: place.part_of for place in places if place.part_of})
    step = rows_at_once(shape[1], dtype)
    with path.open("rb") as stream:
        for first in range(0, len(places), step):
            some = places[first : first + step]
            chunks = itertools.chain.from_iterable(_at(stream, place, shape, dtype) for place in some)
            yield from ([np.concatenate(list(chunks))] if len(some) > 1 else chunks)


def _at(stream: BinaryIO, place: _Place, shape: tuple[int, int], dtype: np.dtype) -> Iterator[np.ndarray]:
    stream.seek(place.start)
    yield from stream_chunks(stream, shape, dtype, place.checksum)


def _compare_checksums(path: Path, records: Mapping[str, zipfile.ZipInfo]) -> None:
    """Read storages of which parts are taken; the archive compares them with their checksums."""
    with zipfile.ZipFile(path) as archive:
        for record in records.values():
            with archive.open(record) as stream:
                while record.CRC and stream.read(CHUNK_BYTES):
                    pass


def _dtype(where: str, tensor: SavedTensor) -> np.dtype:
    if tensor.number not in STORED:
        raise UserError(
            f"{where} holds {tensor.number}: save float32, float16 or bfloat16, for example with "
            "`torch.save(tensor.float(), path)`"
        )
    if not tensor.is_contiguous:
        raise UserError(f"{where} is a strided view: save it with `torch.save(tensor.contiguous(), path)`")
    return STORED[tensor.number]


def _notes(where: str, tensor: SavedTensor) -> tuple[str, ...]:
    """Return what is said of a tensor that is taken though it is not a plain one on the CPU."""
    device = (f"was saved on {tensor.location}",) if tensor.location != "cpu" else ()
    return tuple(f"{where} {what}: its values are taken" for what in (*tensor.notes, *device))
