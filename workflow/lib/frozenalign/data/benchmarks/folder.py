"""The folder of an evaluation set: embeddings in the default form, and a document that says what the rows mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.data.benchmarks.items import FORMAT, ROWS_FILE
from frozenalign.data.embeddings import METADATA_BYTES, METADATA_BYTES_A_ROW
from frozenalign.data.made_files import ROW_FILES
from frozenalign.data.row_checks import check_rows
from frozenalign.data.rows import Rows, open_rows
from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import read_json


@dataclass(frozen=True)
class BenchmarkRows:
    """The checked rows of an evaluation set; meaning: the content of rows.json, with numbers of rows from 0.

    hashes: SHA-256 of the embedding files by name. warnings: sentences to show beside every number.
    """

    images: Rows
    texts: Rows
    meaning: dict[str, Any]
    path: Path
    hashes: dict[str, str]
    warnings: list[str]

    def numbers(self, values: Any, bound: int, where: str) -> np.ndarray:
        """Return whole numbers of the document as an array (n,); any that is not below `bound` is refused."""
        if not isinstance(values, list) or not values or set(map(type, values)) != {int}:
            raise UserError(f"{self.path}: {where} is {quoted(values)}: write a list of whole numbers")
        for place, value in enumerate(values):
            if not 0 <= value < bound:
                raise UserError(
                    f"{self.path}: {where}[{place}] is {quoted(value)}, not from 0 to {bound - 1}: correct it"
                )
        return np.array(values)


def benchmark_rows(folder: Path, kind: str) -> BenchmarkRows:
    """Open the folder of an evaluation set of a kind, and read every row once."""
    images, texts = (open_rows(folder / name) for name in ROW_FILES[:2])
    path = folder / ROWS_FILE
    limit = METADATA_BYTES + METADATA_BYTES_A_ROW * (images.rows + texts.rows)
    meaning = read_json(path, limit, "write which rows of the embeddings mean what there, see docs/benchmarks.md")
    if not isinstance(meaning, dict) or meaning.get("format") != FORMAT or meaning.get("kind") != kind:
        found = meaning.get("kind") if isinstance(meaning, dict) else meaning
        raise UserError(
            f"{path} is of the kind {quoted(found)}, not of {quoted(kind)} in format {FORMAT}: correct `kind`, or "
            "encode the set again"
        )
    checked = {rows.path.name: check_rows(rows, None) for rows in (images, texts)}
    hashes = {name: found.sha256 for name, found in checked.items()}
    return BenchmarkRows(
        images, texts, meaning, path, hashes, [text for found in checked.values() for text in found.warnings]
    )
