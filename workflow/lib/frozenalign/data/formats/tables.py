"""Metadata as JSON, JSON Lines, CSV or TSV: columns by name, one entry for each pair."""

import csv
import io
from pathlib import Path
from typing import Any

from frozenalign.data.formats.registry import register_table_format
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json, read_text
from frozenalign.system.strict_json import decoded

REMEDY = "write the metadata of these embeddings there, one entry for each text row"


@register_table_format(".json")
def read_json_columns(path: Path, limit: int) -> dict[str, Any]:
    """An object of lists, as the default form has it, or a list of objects, one a pair."""
    content = read_json(path, limit, REMEDY)
    if isinstance(content, list):
        return _columns(path, content)
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a JSON object with a list `image_ids`, or a list of objects with `image_id`")
    return content


@register_table_format(".ndjson")
@register_table_format(".jsonl")
def read_json_lines(path: Path, limit: int) -> dict[str, Any]:
    """One JSON object a line, one line a pair."""
    rows = []
    for number, line in enumerate(read_text(path, limit, REMEDY).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(decoded(line))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number} is not valid JSON ({error}): write one object a line") from error
    return _columns(path, rows)


@register_table_format(".csv")
def read_csv(path: Path, limit: int) -> dict[str, Any]:
    """Comma-separated values below a line of column names."""
    return _separated(path, limit, ",")


@register_table_format(".tsv")
def read_tsv(path: Path, limit: int) -> dict[str, Any]:
    """Tab-separated values below a line of column names."""
    return _separated(path, limit, "\t")


def _separated(path: Path, limit: int, separator: str) -> dict[str, Any]:
    text = read_text(path, limit, REMEDY)
    # A field may be as long as the file; the limit of the module, which is that of all readers, is of 128 KiB.
    before = csv.field_size_limit(max(limit, 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} cannot be read ({error}): quote its fields") from error
    finally:
        csv.field_size_limit(before)
    names = [name.strip() for name in rows[0]] if rows else []
    if len(set(names)) < len(names) or not all(names):
        raise UserError(f"{path}: its first line must name every column once, such as image_id{separator}caption")
    for number, row in enumerate(rows[1:]):
        if len(row) != len(names):
            raise UserError(
                f"{path}: row {number} has {len(row)} fields where the first line names {len(names)} columns: quote "
                "fields that hold the separator"
            )
    return {name: [row[place] for row in rows[1:]] for place, name in enumerate(names)}


def _columns(path: Path, rows: list[Any]) -> dict[str, Any]:
    """Return columns, given one object a row; a key that a row lacks is None there."""
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(
                f"{path}: row {number} is no JSON object: write one with image_id and caption for each pair"
            )
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
