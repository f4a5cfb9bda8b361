"""Parquet, Arrow and Feather files: rows in a list column, ids and captions in columns beside it."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from frozenalign.data.formats.registry import INSTALL, register_row_format, register_table_format
from frozenalign.data.formats.stored_rows import (
    StoredRows,
    as_stored,
    chosen,
    id_name,
    ids_as_text,
    matrix_shape,
    number_format,
    rows_at_once,
)
from frozenalign.system.errors import UserError
from frozenalign.system.optional_libraries import imported

# Of a variable list, only the first rows are looked at to know its width.
FIRST_ROWS = 1
BUFFER_BYTES = 1 << 20


class _Table(NamedTuple):
    """An opened file: its schema, its number of rows, and how to read columns in batches of at most so many rows."""

    schema: Any
    rows: int
    batches: Callable[[Sequence[str], int], Iterator[Any]]


@register_row_format(".parquet")
def read_parquet(path: Path, name: str | None) -> StoredRows:
    """A column of lists of numbers; `PATH::NAME` where there are several. Ids from a column such as `image_id`."""
    return _rows(path, name, functools.partial(_parquet, path))


@register_row_format(".feather")
@register_row_format(".arrow")
def read_arrow(path: Path, name: str | None) -> StoredRows:
    """The same in Arrow's own format, as a file or a stream."""
    return _rows(path, name, functools.partial(_arrow, path))


@register_table_format(".parquet")
def read_parquet_columns(path: Path, limit: int) -> dict[str, list[Any]]:
    """Columns of one entry a pair; those that hold lists are left out."""
    return _columns(path, _parquet(path), limit)


@register_table_format(".feather")
@register_table_format(".arrow")
def read_arrow_columns(path: Path, limit: int) -> dict[str, list[Any]]:
    """The same in Arrow's own format."""
    return _columns(path, _arrow(path), limit)


def _rows(path: Path, name: str | None, opened: Callable[[], _Table]) -> StoredRows:
    arrow, table = imported("pyarrow", INSTALL, path), opened()
    lists = {field.name: field.type for field in table.schema if _is_list(arrow, _stored(field.type))}
    taken = chosen(dict.fromkeys(lists, (table.rows, 0)), name, path, "column")
    where, stored = f"{path}: {taken}", _stored(lists[taken])
    values = stored.value_type
    if not arrow.types.is_floating(values):
        raise UserError(f"{where} holds lists of {values}: write float32, float16 or float64")
    number = number_format(np.dtype(values.to_pandas_dtype()), where)
    width = stored.list_size if arrow.types.is_fixed_size_list(stored) else _first_width(table, taken)
    rows, width, notes = matrix_shape((table.rows, width), where)
    step = rows_at_once(width, np.dtype(number))
    ids = id_name([field.name for field in table.schema if not _is_list(arrow, field.type)])
    return StoredRows(
        path,
        rows,
        width,
        number,
        functools.partial(_chunks, where, opened, taken, width, step),
        functools.partial(_ids, path, opened, ids) if ids else None,
        notes,
    )


def _chunks(where: str, opened: Callable[[], _Table], name: str, width: int, step: int) -> Iterator[np.ndarray]:
    """Yield the rows of a list column, at most `step` at a time."""
    start = 0
    for batch in opened().batches([name], step):
        column = batch.column(0)
        column = getattr(column, "storage", column)
        if column.null_count:
            row = start + column.is_null().index(True).as_py()
            raise UserError(f"{where} has no numbers in row {row}: encode it again, or leave its pair out")
        values = column.flatten()
        lengths = np.diff(column.offsets.to_numpy()) if hasattr(column, "offsets") else np.full(len(column), width)
        if len(other := np.flatnonzero(lengths != width)):
            raise UserError(
                f"{where} has {lengths[other[0]]} numbers in row {start + other[0]} and {width} in the first: encode "
                "it again"
            )
        yield as_stored(values.to_numpy(zero_copy_only=False).reshape(len(column), width))
        start += len(column)


def _ids(path: Path, opened: Callable[[], _Table], name: str) -> list[str]:
    batches = opened().batches([name], 1 << 16)
    return ids_as_text([each for batch in batches for each in batch.column(0).to_pylist()], f"{path}: {name}")


def _columns(path: Path, table: _Table, limit: int) -> dict[str, list[Any]]:
    arrow = imported("pyarrow", INSTALL, path)
    simple = (arrow.types.is_string, arrow.types.is_large_string, arrow.types.is_integer, arrow.types.is_dictionary)
    names = [field.name for field in table.schema if any(test(field.type) for test in simple)]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    read = 0
    for batch in table.batches(names, 1 << 14) if names else ():
        read += batch.nbytes
        if read > limit:
            raise UserError(
                f"{path} has more than {limit} bytes of text where at most so many are read: check the file"
            )
        for name in names:
            columns[name] += batch.column(name).to_pylist()
    return columns


def _first_width(table: _Table, name: str) -> int:
    for batch in table.batches([name], FIRST_ROWS):
        first = batch.column(0)[0]
        return len(first.as_py() or ()) if first.is_valid else 0
    return 0


def _stored(kind: Any) -> Any:
    """Return the type in which a type is stored; a tensor column is a list of fixed size."""
    return getattr(kind, "storage_type", kind)


def _is_list(arrow: ModuleType, kind: Any) -> bool:
    kind = _stored(kind)
    tests = (arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def _parquet(path: Path) -> _Table:
    parquet = imported("pyarrow.parquet", INSTALL, path)
    file = parquet.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)

    def batches(names: Sequence[str], rows: int) -> Iterator[Any]:
        return file.iter_batches(batch_size=rows, columns=list(names), use_threads=False)

    return _Table(file.schema_arrow, file.metadata.num_rows, batches)


def _arrow(path: Path) -> _Table:
    """Open a file or a stream of record batches, which are mapped into memory, not read."""
    arrow, ipc = imported("pyarrow", INSTALL, path), imported("pyarrow.ipc", INSTALL, path)

    def opened() -> Iterator[Any]:
        source = arrow.memory_map(str(path))
        try:
            reader = ipc.open_file(source)
            return (reader.get_batch(place) for place in range(reader.num_record_batches))
        except arrow.ArrowInvalid:
            return iter(ipc.open_stream(arrow.memory_map(str(path))))

    def batches(names: Sequence[str], rows: int) -> Iterator[Any]:
        for batch in opened():
            for start in range(0, batch.num_rows, rows):
                yield batch.select(list(names)).slice(start, rows)

    every = list(opened())
    if not every:
        raise ValueError("it holds no rows")
    return _Table(every[0].schema, sum(batch.num_rows for batch in every), batches)
