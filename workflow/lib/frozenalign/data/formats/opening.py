"""The rows of a source opened: one matrix, whatever its files are, and its numbers as the default form has them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from frozenalign.data.formats.registry import ROW_FORMATS
from frozenalign.data.formats.sources import Source
from frozenalign.data.formats.stored_rows import STORED, StoredRows
from frozenalign.system.errors import UserError, is_out_of_memory, one_line

Result = TypeVar("Result")


def open_source(source: Source) -> StoredRows:
    """Return the rows of all files of a source, one after the other; only headers are read.

    float64 becomes float32, which is said in the notes.
    """
    parts = [_opened(path, source.name) for path in source.files]
    first = parts[0]
    for part in parts[1:]:
        if (part.width, part.number) != (first.width, first.number):
            raise UserError(
                f"{part.path} has rows of {part.width} {part.number} numbers but {first.path} of {first.width} "
                f"{first.number}: write all shards alike"
            )
    with_ids = [part.ids for part in parts if part.ids]
    if with_ids and len(with_ids) < len(parts):
        lacking = next(part.path for part in parts if not part.ids)
        raise UserError(f"{lacking} has no image ids, other files beside it do: write all shards alike")
    return _converted(
        replace(
            first,
            rows=sum(part.rows for part in parts),
            chunks=lambda: (chunk for part in parts for chunk in _readable(part)),
            ids=(lambda: [each for ids in with_ids for each in ids()]) if with_ids else None,
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        )
    )


def _opened(path: Path, name: str | None) -> StoredRows:
    rows = explained(path, ROW_FORMATS[path.suffix], path, name)
    ids = rows.ids
    return rows if ids is None else replace(rows, ids=lambda: _checked_ids(rows, explained(path, ids)))


def _checked_ids(rows: StoredRows, ids: list[str]) -> list[str]:
    if len(ids) != rows.rows:
        raise UserError(f"{rows.path} has {rows.rows} rows but {len(ids)} image ids: write one id for each row")
    return ids


def _readable(rows: StoredRows) -> Iterator[np.ndarray]:
    """Yield the chunks of a file; what a damaged one raises becomes one sentence."""
    chunks = explained(rows.path, rows.chunks)
    while (chunk := explained(rows.path, next, chunks, None)) is not None:
        yield chunk


def _converted(rows: StoredRows) -> StoredRows:
    """Return rows whose numbers the default form can hold."""
    if rows.number != "float64":
        return rows
    note = f"{rows.path} holds float64: written as float32"
    return replace(rows, number="float32", chunks=lambda: map(_narrow, rows.chunks()), notes=(*rows.notes, note))


def _narrow(chunk: np.ndarray) -> np.ndarray:
    # What float32 cannot hold becomes infinite, which the split refuses with its row.
    with np.errstate(over="ignore"):
        return chunk.astype(STORED["float32"])


def explained(path: Path, read: Callable[..., Result], *arguments: Any) -> Result:
    """Return read(*arguments); whatever a parser raises on a damaged file is one sentence about `path`."""
    try:
        return read(*arguments)
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said = one_line(str(error)) or type(error).__name__
        raise UserError(f"{path} cannot be read as {path.suffix} ({said}): copy or write it again") from error
