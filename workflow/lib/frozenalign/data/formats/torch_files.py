"""PyTorch's .pt: a tensor, a dict or a list of tensors, in any of the ways people save them; nothing in it runs."""

import functools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
    standing_at,
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


@register_row_format(".pth")
@register_row_format(".pt")
def read_pt(path: Path, name: str | None) -> StoredRows:
    """A tensor (N, D) or (N, 1, D), a dict with one (`PATH::NAME` where several have rows), or a list of N rows."""
    records = {record.filename.partition("/")[2]: record for record in checked_records(path, KIND)}
    content = _description(path, records["data.pkl"])
    if isinstance(content, SavedTensor):
        if name is not None:
            raise UserError(f"{path} holds one tensor, which has no name: leave out `::{name}`")
        return _matrix(path, str(path), content, records)
    if isinstance(content, list | tuple):
        return _stacked(path, list(content), records)
    if isinstance(content, dict):
        return _from_dict(path, content, name, records)
    raise UserError(f"{path} holds a {type(content).__name__}: {KIND.otherwise}")


def _description(path: Path, record: zipfile.ZipInfo) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read(record)
    try:
        return described(pickled)
    except Exception as error:
        # Damaged bytes lead to any error of the operations.
        said = f": {error}" if isinstance(error, ValueError) else ""
        raise UserError(f"{path} {KIND.foreign}{said}: {KIND.otherwise}") from error


def _from_dict(path: Path, content: Mapping, name: str | None, records: Mapping[str, zipfile.ZipInfo]) -> StoredRows:
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, SavedTensor)}
    taken = chosen({key: tensor.size for key, tensor in tensors.items()}, name, path, "tensor")
    rows = _matrix(path, f"{path}: {taken}", tensors[taken], records)
    notes = (*rows.notes, f"{path} holds a dict: its tensor {taken!r} is taken") if name is None else rows.notes
    beside = {key: value for key, value in content.items() if key != taken and _is_list(value)}
    ids = id_name(list(beside))
    found = functools.partial(_ids, path, ids, beside[ids], records) if ids else None
    return StoredRows(path, rows.rows, rows.width, rows.number, rows.chunks, found, notes)


def _is_list(value: Any) -> bool:
    """Return whether a value of a dict may be the ids of rows."""
    return isinstance(value, list) or (isinstance(value, SavedTensor) and len(value.size) == 1)


def _ids(path: Path, name: str, value: Any, records: Mapping[str, zipfile.ZipInfo]) -> list[str]:
    where = f"{path}: {name}"
    if isinstance(value, SavedTensor):
        if value.number != "int64":
            raise UserError(f"{where} holds {value.number}: save ids as whole numbers (int64) or text")
        place = _place(path, where, value, INTEGERS, records)
        chunks = _chunks(path, [place], (value.size[0], 1), INTEGERS)
        value = [each for chunk in chunks for each in chunk[:, 0].tolist()]
    return ids_as_text(value, where)


def _matrix(path: Path, where: str, tensor: SavedTensor, records: Mapping[str, zipfile.ZipInfo]) -> StoredRows:
    dtype = _dtype(where, tensor)
    rows, width, notes = matrix_shape(tensor.size, where)
    place = _place(path, where, tensor, dtype, records)
    chunks = functools.partial(_chunks, path, [place], (rows, width), dtype)
    return StoredRows(path, rows, width, tensor.number, chunks, None, (*notes, *_notes(where, tensor)))


def _stacked(path: Path, tensors: list[Any], records: Mapping[str, zipfile.ZipInfo]) -> StoredRows:
    """Return the rows of a list of tensors of shape (D,) or (1, D)."""
    remedy = f'torch.save(torch.stack(list(rows)), "{path.name}")'
    if not tensors or not all(isinstance(tensor, SavedTensor) for tensor in tensors):
        raise UserError(f"{path} holds a list that is not of tensors alone: {KIND.otherwise}")
    first = tensors[0]
    for number, tensor in enumerate(tensors):
        width = tensor.size[-1] if tensor.size else 0
        if tensor.size not in ((width,), (1, width)) or (width, tensor.number) != (first.size[-1], first.number):
            raise UserError(
                f"{path} holds a list whose tensor {number} has the shape {tensor.size} in {tensor.number}, the first "
                f"{first.size} in {first.number}: save one row for each entry, then `{remedy}`"
            )
    dtype = _dtype(str(path), first)
    rows, width, _ = matrix_shape((len(tensors), first.size[-1]), str(path))
    places = [_place(path, f"{path}: tensor {number}", each, dtype, records) for number, each in enumerate(tensors)]
    chunks = functools.partial(_chunks, path, places, (1, width), dtype)
    note = f"{path} holds a list of {rows} tensors: taken as rows"
    return StoredRows(path, rows, width, first.number, chunks, None, (note, *_notes(str(path), first)))


def _chunks(path: Path, places: list[_Place], shape: tuple[int, int], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield the rows of matrices of one shape; single ones are put together into chunks."""
    _compare_checksums(path, {place.part_of.filename: place.part_of for place in places if place.part_of})
    step = rows_at_once(shape[1], dtype)
    for first in range(0, len(places), step):
        some = places[first : first + step]
        chunks = (stream_chunks(functools.partial(standing_at, path, at), shape, dtype, check) for at, check, _ in some)
        yield from ([np.concatenate([row for rows in chunks for row in rows])] if len(some) > 1 else next(chunks))


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


def _place(
    path: Path, where: str, tensor: SavedTensor, dtype: np.dtype, records: Mapping[str, zipfile.ZipInfo]
) -> _Place:
    record = records[tensor.record.removeprefix("/")]
    count = int(np.prod([int(size) for size in tensor.size], dtype=object))
    begin, end = tensor.offset * dtype.itemsize, (tensor.offset + count) * dtype.itemsize
    if begin < 0 or count < 0 or end > record.file_size:
        raise UserError(f"{where} {KIND.foreign}: it claims more numbers than there are; {KIND.otherwise}")
    start = record_start(path, record) + begin
    return _Place(start, record.CRC, None) if end - begin == record.file_size else _Place(start, 0, record)


def _notes(where: str, tensor: SavedTensor) -> tuple[str, ...]:
    """Return what is said of a tensor that is taken though it is not a plain one on the CPU."""
    device = (f"was saved on {tensor.location}",) if tensor.location != "cpu" else ()
    return tuple(f"{where} {what}: its values are taken" for what in (*tensor.notes, *device))
