"""What must hold of an encoder before it encodes a data set."""

from typing import Protocol, runtime_checkable

import torch
from torch.nn.functional import cosine_similarity

from frozenalign.encoders.batches import refuse_wrong_rows
from frozenalign.encoders.check_samples import Samples
from frozenalign.encoders.comparisons import farthest
from frozenalign.encoders.registry import Encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError

# 1 - cosine that rounding explains, by the format in which the model computes.
TOLERANCE = {"float32": 1e-6, "float16": 1e-3, "bfloat16": 5e-3}


@runtime_checkable
class ChecksItself(Protocol):
    """An encoder with checks of its own."""

    def own_checks(self, items: tuple, tolerance: float) -> list[str]:
        """Return one line a check, or raise a UserError."""


def self_check(encoder: Encoder, settings: EncoderSettings, samples: Samples) -> list[str]:
    """Return one line for each check that an open encoder passed; one that it fails is a UserError."""
    tolerance = TOLERANCE[settings.dtype]
    rows = encoder.encode(samples.items)
    refuse_wrong_rows(rows, len(samples.items), settings, lambda place: f"sample {place}")
    alone = torch.cat([encoder.encode([item]) for item in samples.items])
    distance = farthest(rows, alone)
    if not distance <= tolerance:
        raise UserError(
            f"encoder {settings.encoder}: alone, an item has another row than in a batch, 1 - cosine up to "
            f"{distance:.1g} where rounding explains {tolerance:.0e}: check its padding and `dtype`"
        )
    if not torch.equal(rows, encoder.encode(samples.items)):
        raise UserError(
            f"encoder {settings.encoder}: a second run gives other rows: set `batch_size: 1` or another device"
        )
    lines = [
        f"a batch of 1 or of {len(rows)}: rows differ by {distance:.1g} (1 - cosine)",
        "a second run: the same rows, bit by bit",
        _nearness(rows, settings, samples),
    ]
    if isinstance(encoder, ChecksItself):
        lines += encoder.own_checks(samples.items, tolerance)
    return lines


def _nearness(rows: torch.Tensor, settings: EncoderSettings, samples: Samples) -> str:
    """Return the smallest lead that a like item has over an unlike one."""
    first, like, unlike = (rows.double()[list(places)] for places in zip(*samples.triples, strict=True))
    leads = cosine_similarity(first, like) - cosine_similarity(first, unlike)
    if not (leads > 0).all():
        place = samples.triples[int(leads.argmin())]
        raise UserError(
            f"encoder {settings.encoder}: sample {place[0]} is nearer to {place[2]}, which shows something else, than "
            f"to {place[1]}, which shows the same: check `name`, `pooling` and `prompt`"
        )
    return f"what is alike is nearer than what is not: by {leads.min():.2f} or more (cosine)"
