"""The sigmoid loss: every pair of a batch is a yes-or-no question of its own."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from frozenalign.configuration.parameters import Number, PositiveFloat
from frozenalign.losses.registry import register_loss
from frozenalign.losses.tiled import SigmoidPairs, TiledLoss
from frozenalign.system.products import tile_size


@register_loss("siglip")
class SigLIPLoss(TiledLoss):
    """Pairwise sigmoid loss: -(1/B) Σij log σ(z_ij (exp(t') S_ij + b)), a sum over B² divided by B.

    Zhai et al. 2023, Sigmoid Loss for Language Image Pre-Training. The scale has no upper bound.

    temperature: start of 1 / exp(t').
    bias_init: start of b; auto takes ln(p / (1 - p)) with p = 1 / B.
    """

    def __init__(self, *, temperature: PositiveFloat = 0.1, bias_init: Number | Literal["auto"] = -10.0) -> None:
        super().__init__()
        self.bias_init = bias_init
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))
        self.bias = nn.Parameter(torch.tensor(0.0 if bias_init == "auto" else float(bias_init)))

    def expect_batches(self, batch_size: int) -> None:
        """Set an automatic bias so that every pair starts at the share of matches in a batch."""
        if self.bias_init == "auto":
            self.bias.data.fill_(-math.log(max(batch_size, 2) - 1))

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        """Return the loss of features (B, D) and (B, D)."""
        masked = image_index if self.mask_same_image else None
        terms = x, y, masked, self.logit_scale.exp(), self.bias
        return self.tiles.run(SigmoidPairs.apply, tile_size(x.device), x.device, *terms) / len(x)

    def terms(self) -> dict[str, Tensor]:
        """Return temperature and bias."""
        return {"temperature": (-self.logit_scale).exp(), "bias": self.bias}

    def freeze_temperature(self) -> None:
        """Keep the scale where it starts; the bias stays learnable."""
        self.logit_scale.requires_grad_(False)
