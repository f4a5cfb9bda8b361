"""How the rows of tokens or patches become one row a text or picture; pure functions of tensors.

A mask (n, T) is 1 where a token counts and 0 where it does not, as at padding.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def cls(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the row of the first token: hidden (n, T, D) to (n, D)."""
    return hidden[:, 0]


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean row of the tokens that count: hidden (n, T, D), mask (n, T) to (n, D) in float32."""
    weights = mask.to(torch.float32)[:, :, None]
    return (hidden.float() * weights).sum(1) / weights.sum(1)


def last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the row of the last token that counts, whichever side is padded: hidden (n, T, D), mask (n, T) to (n, D).

    The mask decides, not the ids: a tokenizer may pad with the token that also ends every text.
    """
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    last = (mask.bool() * places).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cls": cls, "mean": mean, "last_token": last_token}
