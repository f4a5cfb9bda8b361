"""NumPy's .npy and .npz, read in chunks without loading a whole array; pickled objects are refused."""

import functools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from frozenalign.data.formats.registry import register_row_format
from frozenalign.data.formats.stored_rows import (
    StoredRows,
    as_stored,
    chosen,
    id_name,
    ids_as_text,
    matrix_shape,
    number_format,
    opened_chunks,
    rows_at_once,
    standing_at,
)
from frozenalign.system.errors import UserError

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class _Array(NamedTuple):
    """What the header of an array says, and where its numbers begin."""

    shape: tuple[int, ...]
    in_columns: bool
    dtype: np.dtype
    offset: int


@register_row_format(".npy")
def read_npy(path: Path, name: str | None) -> StoredRows:
    """An array of shape (N, D)."""
    if name is not None:
        raise UserError(f"{path} holds one array, which has no name: leave out `::{name}`")
    opened = functools.partial(path.open, "rb")
    array = _header(opened)
    rows = _rows(path, str(path), array, functools.partial(standing_at, path, array.offset))
    if array.in_columns and len(array.shape) > 1:
        return replace(rows, chunks=lambda: _column_chunks(path, rows))
    return rows


@register_row_format(".npz")
def read_npz(path: Path, name: str | None) -> StoredRows:
    """Named arrays; `PATH::NAME` where several have rows."""
    with zipfile.ZipFile(path) as archive:
        members = [each.removesuffix(".npy") for each in archive.namelist() if each.endswith(".npy")]
    arrays = {member: _header(functools.partial(_member, path, member)) for member in members}
    taken = chosen({member: array.shape for member, array in arrays.items()}, name, path, "array")
    where = f"{path}: {taken}"
    if arrays[taken].in_columns and len(arrays[taken].shape) > 1:
        raise UserError(f"{where} is stored column after column: save np.ascontiguousarray(array)")
    ids = id_name([member for member in members if len(arrays[member].shape) == 1])
    rows = _rows(path, where, arrays[taken], functools.partial(_member, path, taken, arrays[taken].offset))
    return replace(rows, ids=functools.partial(_npz_ids, path, ids)) if ids else rows


def _rows(path: Path, where: str, array: _Array, opened: Callable[[], BinaryIO]) -> StoredRows:
    number = number_format(array.dtype, where)
    rows, width, notes = matrix_shape(array.shape, where)
    chunks = functools.partial(opened_chunks, opened, (rows, width), array.dtype)
    return StoredRows(path, rows, width, number, chunks, None, notes)


def _column_chunks(path: Path, rows: StoredRows) -> Iterator[np.ndarray]:
    """Yield the rows of a file that holds a matrix column after column."""
    matrix = np.load(path, mmap_mode="r", allow_pickle=False).reshape(rows.rows, rows.width, order="F")
    step = rows_at_once(rows.width, matrix.dtype)
    for start in range(0, rows.rows, step):
        yield as_stored(matrix[start : start + step])


def _header(opened: Callable[[], BinaryIO]) -> _Array:
    with opened() as stream:
        version = np.lib.format.read_magic(stream)
        if version not in HEADERS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        return _Array(*HEADERS[version](stream), stream.tell())


def _member(path: Path, name: str, offset: int = 0) -> BinaryIO:
    """Open an array of an archive and read to byte `offset`: after a jump, its checksum would not be compared."""
    with zipfile.ZipFile(path) as archive:
        # It stays open when the archive is closed.
        stream = archive.open(f"{name}.npy")
    stream.read(offset)
    return stream


def _npz_ids(path: Path, name: str) -> list[str]:
    with np.load(path, allow_pickle=False) as archive:
        return ids_as_text(archive[name].tolist(), f"{path}: {name}")
