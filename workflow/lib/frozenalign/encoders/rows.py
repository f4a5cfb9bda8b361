"""What every encoder promises of the rows that it returns."""

import torch
from torch import Tensor

from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError


def checked_rows(rows: Tensor, settings: EncoderSettings) -> Tensor:
    """Return rows (n, D) in float32 on the CPU, or raise a UserError: D is not `width`, or a number is not finite."""
    if rows.ndim != 2 or rows.shape[1] != settings.width:
        raise UserError(
            f"encoder {settings.encoder}: width is {settings.width} but {settings.name} returns rows of "
            f"{' x '.join(map(str, rows.shape[1:]))}: correct `width`, `pooling` or `name`"
        )
    rows = rows.float().cpu()
    if not torch.isfinite(rows).all():
        advice = "set `dtype: bfloat16`" if settings.dtype == "float16" else "check the model's files"
        raise UserError(
            f"encoder {settings.encoder}: a row has numbers that are NaN or infinite in {settings.dtype}: {advice}"
        )
    return rows
