"""Batches of pictures or texts through an encoder, and the checks of the rows that come out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from frozenalign.encoders.registry import Encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.encoders.shards import DTYPES
from frozenalign.system.errors import UserError, one_line
from frozenalign.system.memory import FittingSize


@dataclass(frozen=True)
class OpenedEncoder:
    """An encoder that is opened on a device, with its settings and how much it encodes at once."""

    settings: EncoderSettings
    modality: str
    device: torch.device
    encoder: Encoder
    fitting: FittingSize = field(
        default_factory=lambda: FittingSize(
            "pictures or texts", 1, "take an encoder with fewer parameters, or a device with more memory"
        )
    )

    def rows(self, items: Sequence[Any], names: Callable[[int], str]) -> Tensor:
        """Return the rows (n, D) of a batch in the number format that is stored; names: what item i is called.

        Where memory runs out, the batch is divided: encoders treat each item alone.
        """
        rows = self.fitting.run(self._in_parts, self.settings.batch_size, self.device, items)
        refuse_wrong_rows(rows, len(items), self.settings, names)
        return rows.to(DTYPES[self.settings.dtype])

    def _in_parts(self, size: int, items: Sequence[Any]) -> Tensor:
        starts = range(0, len(items), size)
        with torch.inference_mode():
            return torch.cat([self.encoder.encode(items[start : start + size]) for start in starts])


def refuse_wrong_rows(rows: Tensor, count: int, settings: EncoderSettings, names: Callable[[int], str]) -> None:
    """Refuse rows of another number or width than asked for, and rows that are not finite or all zero."""
    if rows.shape != (count, settings.width):
        raise UserError(
            f"the encoder {settings.encoder} gave {tuple(rows.shape)} numbers for {count} rows of {settings.width}: "
            f"correct `width` or `pooling` in its file"
        )
    wrong = ~torch.isfinite(rows.float()).all(dim=1) | (rows == 0).all(dim=1)
    if wrong.any():
        place = int(wrong.nonzero()[0])
        kind = "zeros alone" if torch.isfinite(rows[place].float()).all() else "NaN or infinite numbers"
        raise UserError(
            f"the encoder {settings.encoder} gave {kind} for {one_line(names(place))}: check it, or take another "
            "`dtype`"
        )


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Return the places of texts in batches of about equal length, longest first: memory runs out early or never."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    return [order[start : start + size] for start in range(0, len(order), size)]
