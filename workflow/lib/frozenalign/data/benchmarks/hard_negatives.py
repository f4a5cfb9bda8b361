"""Files of hard negatives: a picture, its caption, and a caption that is almost the same and wrong.

Hsieh et al. 2023, SugarCrepe: Fixing Hackable Benchmarks for Vision-Language Compositionality.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozenalign.data.benchmarks.items import FORMAT, ROWS_FILE, BenchmarkItems, numbered
from frozenalign.data.benchmarks.registry import register_benchmark_file
from frozenalign.data.ids import is_text
from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import read_json, read_text

COLUMNS = ("filename", "caption", "negative_caption")
FILE_BYTES = 256 << 20
SEPARATORS = {".csv": ",", ".tsv": "\t"}
WRITE = f"write {', '.join(COLUMNS)} for each row, as JSON, CSV or TSV"


@register_benchmark_file("hard_negatives")
def hard_negatives(path: Path, pictures: Path) -> BenchmarkItems:
    """Read SugarCrepe's JSON, an object of rows by id, or a list of such rows, or a CSV or TSV with these columns."""
    rows = _table(path) if path.suffix.lower() in SEPARATORS else _json_rows(path)
    if not rows:
        raise UserError(f"{path} has no rows: {WRITE}")
    values = [_checked(row, f"{path}: row {name}") for name, row in rows.items()]
    files = numbered([file for file, _, _ in values])
    texts = numbered([text for _, *both in values for text in both])
    meaning = {
        "format": FORMAT,
        "kind": "hard_negatives",
        "rows": [
            {"id": name, "image": files[file], "caption": texts[caption], "negative": texts[negative]}
            for name, (file, caption, negative) in zip(rows, values, strict=True)
        ],
    }
    return BenchmarkItems({file: file for file in files}, list(texts), ROWS_FILE, meaning)


def _json_rows(path: Path) -> dict[str, Any]:
    content = read_json(path, FILE_BYTES, WRITE)
    if isinstance(content, list):
        return {str(number): row for number, row in enumerate(content)}
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds {quoted(content)}: {WRITE}")
    return dict(content)


def _table(path: Path) -> dict[str, Any]:
    text = read_text(path, FILE_BYTES, WRITE)
    try:
        records = list(csv.DictReader(io.StringIO(text), delimiter=SEPARATORS[path.suffix.lower()], strict=True))
    except csv.Error as error:
        raise UserError(f"{path} is no {path.suffix[1:].upper()} ({error}): {WRITE}") from error
    return {str(number): row for number, row in enumerate(records)}


def _checked(row: Any, where: str) -> tuple[str, str, str]:
    """Return file, caption and negative caption of a row."""
    found = [row.get(name) if isinstance(row, Mapping) else None for name in COLUMNS]
    for name, value in zip(COLUMNS, found, strict=True):
        if not is_text(value) or not value.strip():
            raise UserError(f"{where} has {quoted(value)} as {name}: {WRITE}")
    file, caption, negative = (value.strip() for value in found)
    return file, caption, negative
