"""Dropout that draws its random bits five times faster on a CPU than PyTorch's, which took 20 % of a training."""

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """Sets values to zero with probability p in training and scales the others by 1 / (1 - p).

    On a CPU four values share the 64 bits of a draw, so that p is a multiple of 1/65536; elsewhere this is nn.Dropout.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map values (…) to values (…)."""
        return dropped(x, self.p) if self.training else x


def dropped(x: Tensor, share: float) -> Tensor:
    """Return values (…) with a share of them set to zero and the others scaled by 1 / (1 - share)."""
    if share == 0.0:
        return x
    if x.device.type != "cpu":
        return functional.dropout(x, share)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    # Whole numbers drawn evenly from [-32768, 32768).
    levels = words.view(torch.int16)[: x.numel()].view(x.shape)
    zeros = round(share * LEVELS)
    kept = levels >= zeros - LEVELS // 2
    return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - zeros))
