"""Shards: the rows of up to 4,096 pictures or captions in a file of their own, with a record of what made them.

A shard is finished when its record says so: the record is written last, and holds the hash of the rows. What is
recorded of another encoder, or of other pictures or captions, is computed anew.
"""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, read_json, remove_unfinished, text_hash, write_bytes, write_json

SHARD_ROWS = 4096
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
FORMAT = 1


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a finished shard.

    maker: hash of the encoder, its settings and its code. inputs: hash of the pictures or captions. sha256: of the file
    of rows. rows: their number. refused: the reason for each picture that could not be read, by its image id.
    truncated: texts that were cut. seconds: how long it took. stamps: of the pictures' files, which spare reading them.
    """

    maker: str
    inputs: str
    sha256: str
    rows: int
    refused: dict[str, str] = field(default_factory=dict)
    truncated: int = 0
    seconds: float = 0.0
    stamps: str = ""


@dataclass(frozen=True)
class Shard:
    """One shard of a modality: the folder that it lies in, its number, and which items it holds."""

    folder: Path
    number: int
    items: slice

    @property
    def rows_path(self) -> Path:
        """Return the file of the rows, one plain tensor (n, D)."""
        return self.folder / f"{self.number:05d}.pt"

    @property
    def record_path(self) -> Path:
        """Return the file of the record."""
        return self.folder / f"{self.number:05d}.json"

    def intact(self, maker: str) -> ShardRecord | None:
        """Return the record if this maker has finished the shard and its rows are as they were written."""
        record = self._record()
        if record is None or record.maker != maker or not self.rows_path.is_file():
            return None
        return record if file_hash(self.rows_path) == record.sha256 else None

    def write(self, rows: Tensor, about: Mapping[str, Any]) -> ShardRecord:
        """Write rows (n, D), then the record of them, with the other fields of a ShardRecord."""
        content = io.BytesIO()
        # A clone: torch.save writes the whole storage of a view.
        torch.save(rows.clone(), content)
        remove_unfinished(self.folder, self.rows_path.stem)
        # Until the new rows are recorded, nothing is.
        self.record_path.unlink(missing_ok=True)
        write_bytes(self.rows_path, content.getvalue())
        record = ShardRecord(sha256=file_hash(self.rows_path), rows=len(rows), **about)
        self.record(record)
        return record

    def record(self, record: ShardRecord) -> None:
        """Write the record."""
        write_json(self.record_path, {"format": FORMAT, **asdict(record)})

    def _record(self) -> ShardRecord | None:
        try:
            content = read_json(self.record_path)
            return ShardRecord(**content) if content.pop("format") == FORMAT else None
        except (UserError, OSError, LookupError, TypeError, AttributeError):
            # Whatever else it holds, no step has finished it.
            return None


def shards_of(folder: Path, count: int) -> list[Shard]:
    """Return the shards of so many pictures or captions; they depend on nothing else."""
    starts = range(0, count, SHARD_ROWS)
    return [Shard(folder, number, slice(start, min(start + SHARD_ROWS, count))) for number, start in enumerate(starts)]


def share(shards: list[Shard], job: int, jobs: int) -> list[Shard]:
    """Return the shards of one of so many jobs, counted from 1."""
    return shards[job - 1 :: jobs]


def texts_hash(texts: list[str]) -> str:
    """Return one hash of texts in their order."""
    return text_hash("".join(f"{len(text)}:{text}" for text in texts))
