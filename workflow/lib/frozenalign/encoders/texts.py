"""The captions of a set, encoded in batches of about equal length and returned in their order."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from frozenalign.data.captions.pairs import CaptionedPictures
from frozenalign.encoders.batches import OpenedEncoder, by_length
from frozenalign.encoders.progress import Progress
from frozenalign.encoders.shards import DTYPES, ShardRecord, texts_hash
from frozenalign.system.errors import quoted


@dataclass(frozen=True)
class Texts:
    """Captions in the order of their pairs."""

    captions: list[str]
    what = "captions"

    @classmethod
    def of(cls, captioned: CaptionedPictures) -> "Texts":
        """Return all captions."""
        return cls(captioned.captions)

    def __len__(self) -> int:
        """Return the number of captions."""
        return len(self.captions)

    def recognised(self, record: ShardRecord, items: slice) -> ShardRecord | None:
        """Return the record of a shard made from these captions."""
        return record if record.inputs == texts_hash(self.captions[items]) else None

    def refuse(self, record: ShardRecord, items: slice) -> None:
        """Refuse nothing: every text can be read."""

    def encode(self, items: slice, opened: OpenedEncoder, progress: Progress) -> tuple[Tensor, dict[str, Any]]:
        """Return the rows (n, D) of captions, and what the shard's record says of them."""
        texts, settings = self.captions[items], opened.settings
        lengths = opened.encoder.lengths(texts)
        rows = torch.empty(len(texts), settings.width, dtype=DTYPES[settings.dtype])
        for places in by_length(lengths, settings.batch_size):
            batch = [texts[place] for place in places]
            rows[torch.tensor(places)] = opened.rows(batch, lambda i, batch=batch: f"the caption {quoted(batch[i])}")
            progress.add(len(batch))
        limit = settings.max_length or opened.encoder.facts().get("max_length")
        truncated = sum(length > limit for length in lengths) if limit else 0
        return rows, {"inputs": texts_hash(texts), "truncated": truncated}
