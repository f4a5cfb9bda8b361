"""One job of an encoding: its share of the shards, those that are finished kept and all others computed."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from frozenalign.encoders.batches import OpenedEncoder
from frozenalign.encoders.check_samples import samples
from frozenalign.encoders.code import deciding_code
from frozenalign.encoders.progress import Progress
from frozenalign.encoders.registry import open_encoder
from frozenalign.encoders.self_check import self_check
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.encoders.shards import FORMAT, SHARD_ROWS, Shard, ShardRecord, shards_of, share
from frozenalign.system.devices import device_name
from frozenalign.system.files import remove_unfinished, write_json
from frozenalign.system.fingerprints import fingerprint
from frozenalign.system.locks import in_turn
from frozenalign.system.refusals import refusals_explained

logger = logging.getLogger(__name__)


class Source(Protocol):
    """What is encoded: pictures or captions in a fixed order. what: their name in the plural."""

    what: str

    def __len__(self) -> int:
        """Return how many there are."""

    def recognised(self, record: ShardRecord, items: slice) -> ShardRecord | None:
        """Return the record, up to date, if the shard was made from these items."""

    def refuse(self, record: ShardRecord, items: slice) -> None:
        """Stop if the record lists items that must not be left out."""

    def encode(self, items: slice, opened: OpenedEncoder, progress: Progress) -> tuple[Tensor, dict[str, Any]]:
        """Return the rows (n, D) of some items, and fields of their ShardRecord."""


@dataclass(frozen=True)
class Job:
    """One of so many jobs that divide the shards in a folder, counted from 1."""

    folder: Path
    number: int = 1
    of: int = 1

    @property
    def path(self) -> Path:
        """Return the file that the job ends with."""
        return self.folder / f"{self.number}-of-{self.of}.json"


def encode_share(source: Source, settings: EncoderSettings, modality: str, device: torch.device, job: Job) -> str:
    """Encode a job's share of the shards, write its file, and return what was found in one line.

    A second process of the same job waits for the first.
    """
    opened = OpenedEncoder(settings, modality, device, open_encoder(settings, modality, device))
    facts = opened.encoder.facts()
    maker = fingerprint(FORMAT, settings.decisive(), modality, facts, device.type, deciding_code(settings.library))
    mine = share(shards_of(job.folder, len(source)), job.number, job.of)
    progress = Progress(sum(shard.items.stop - shard.items.start for shard in mine), source.what)
    logger.info("encoding %d %s in %d shards of %d", progress.total, source.what, len(mine), SHARD_ROWS)
    with refusals_explained(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
    with in_turn(job.folder / f".{job.path.stem}.lock"):
        remove_unfinished(job.folder, job.path.stem)
        records = _finished(mine, source, opened, maker, progress)
        about = {"settings": asdict(settings), "facts": facts, "device": device.type}
        shards = {str(number): asdict(record) for number, record in records.items()}
        about |= {"device_name": device_name(device), "items": len(source), "shards": shards}
        write_json(job.path, {"format": FORMAT, "maker": maker, **about})
    return progress.closing_line()


def _finished(
    shards: Sequence[Shard], source: Source, opened: OpenedEncoder, maker: str, progress: Progress
) -> dict[int, ShardRecord]:
    """Return the records of shards by number; those that are not finished are encoded, after a check of the encoder."""
    known = {shard.number: _recognised(shard, source, maker, progress) for shard in shards}
    if None in known.values():
        for line in self_check(opened.encoder, opened.settings, samples(opened.encoder, opened.modality)):
            logger.info("checked: %s", line)
    records = {}
    for shard in shards:
        record = known[shard.number] or _encoded(shard, source, opened, maker, progress)
        source.refuse(record, shard.items)
        for image_id, reason in record.refused.items():
            logger.warning("warning: image %s is left out: %s", image_id, reason)
        records[shard.number] = record
    return records


def _recognised(shard: Shard, source: Source, maker: str, progress: Progress) -> ShardRecord | None:
    """Return the record of a shard that this maker has finished, of the items that there are now; else None."""
    found = shard.intact(maker)
    record = found and source.recognised(found, shard.items)
    if record:
        progress.keep(shard.items.stop - shard.items.start)
        if record != found:
            shard.record(record)
    return record


def _encoded(shard: Shard, source: Source, opened: OpenedEncoder, maker: str, progress: Progress) -> ShardRecord:
    """Encode a shard, write it, and return its record."""
    began = time.perf_counter()
    rows, about = source.encode(shard.items, opened, progress)
    return shard.write(rows, {"maker": maker, **about, "seconds": time.perf_counter() - began})
