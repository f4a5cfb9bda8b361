"""The shards of all jobs, checked and put together into the files of a set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.rows import open_rows
from frozenalign.encoders.shards import DTYPES, FORMAT, Shard, ShardRecord, shards_of
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, read_json

AGAIN = "run the encoding again"


@dataclass(frozen=True)
class Encoded:
    """All shards of a modality, finished by one encoder.

    about: the settings, the facts and the device of the encoder.
    """

    shards: list[Shard]
    records: list[ShardRecord]
    about: dict[str, Any]

    @property
    def refused(self) -> dict[str, str]:
        """Return the reason for each picture that could not be read, by its image id."""
        return {name: reason for record in self.records for name, reason in record.refused.items()}

    @property
    def rows(self) -> int:
        """Return the number of rows of all shards."""
        return sum(record.rows for record in self.records)

    @property
    def truncated(self) -> int:
        """Return how many texts were cut."""
        return sum(record.truncated for record in self.records)

    @property
    def seconds(self) -> float:
        """Return how long all jobs together encoded."""
        return sum(record.seconds for record in self.records)

    def chunks(self) -> Iterator[Tensor]:
        """Yield the rows (n, D) of one shard after the other; a shard that was changed is refused."""
        for shard, record in zip(self.shards, self.records, strict=True):
            if not shard.rows_path.is_file() or file_hash(shard.rows_path) != record.sha256:
                raise UserError(f"{shard.rows_path} is not the shard that was encoded: {AGAIN}")
            if record.rows:
                yield torch.load(shard.rows_path, weights_only=True)


def gathered(job_files: Sequence[Path], count: int) -> Encoded:
    """Return the shards that the files of all jobs list: complete, of one encoder, and of `count` items in all."""
    jobs = [_job(path) for path in job_files]
    for path, job in zip(job_files, jobs, strict=True):
        if (job["maker"], job["items"]) != (jobs[0]["maker"], count):
            raise UserError(f"{path} is of another encoding than the captions or {job_files[0]}: {AGAIN}")
    listed = {int(number): ShardRecord(**record) for job in jobs for number, record in job["shards"].items()}
    shards = shards_of(job_files[0].parent, count)
    missing = [shard.number for shard in shards if shard.number not in listed]
    if missing or len(listed) > len(shards):
        raise UserError(f"{job_files[0].parent}: the jobs list {len(listed)} of {len(shards)} shards: {AGAIN}")
    records = [listed[shard.number] for shard in shards]
    return Encoded(shards, records, {name: jobs[0][name] for name in ("settings", "facts", "device", "device_name")})


def _job(path: Path) -> dict[str, Any]:
    content = read_json(path, remedy=AGAIN)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not the file of an encoding job of this version: {AGAIN}")
    return dict(content)


def write_rows(path: Path, encoded: Encoded, kept: np.ndarray) -> None:
    """Write rows as one plain tensor (kept.sum(), D), holding those of one shard at a time.

    kept: (N,) whether a row is written.
    """
    settings = encoded.about["settings"]
    shape = (int(kept.sum()), settings["width"])
    with path.open("wb") as stream, torch.serialization.skip_data():
        # Its memory is never touched: only the description is written, and room for the rows.
        torch.save(torch.empty(shape, dtype=DTYPES[settings["dtype"]]), stream)
    start = open_rows(path).offset
    done = 0
    with path.open("r+b") as stream:
        stream.seek(start)
        for rows in encoded.chunks():
            chosen = rows[torch.from_numpy(kept[done : done + len(rows)])]
            stream.write(chosen.view(torch.uint8).numpy())
            done += len(rows)
