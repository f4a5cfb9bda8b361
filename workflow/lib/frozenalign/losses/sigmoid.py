"""The sigmoid loss: each pair of a batch is a binary classification."""

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.configuration.parameters import Number, PositiveFloat
from frozenalign.losses.registry import register_loss
from frozenalign.losses.ring import sum_round_the_ring
from frozenalign.losses.tiled import PairSum, TiledLoss, sigmoid_sum


@register_loss("siglip")
class SigLIPLoss(TiledLoss):
    """Pairwise sigmoid loss: -(1/B) Σij log σ(z_ij (exp(t') S_ij + b)), a sum over B² divided by B.

    Zhai et al. 2023, Sigmoid Loss for Language Image Pre-Training. The scale has no upper bound.

    temperature: start of 1 / exp(t'); auto fits it to the validation features at the start, else 0.1.
    bias_init: start of b; prior takes ln(p / (1 - p)) with p = 1 / `batch_size`; auto fits it, else the
        prior.
    """

    published_temperature = 0.1

    def __init__(
        self,
        *,
        temperature: PositiveFloat | Literal["auto"] = 0.1,
        bias_init: Number | Literal["auto", "prior"] = -10.0,
    ) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / self.numeric(temperature))))
        self.has_prior = bias_init in ("auto", "prior")
        self.fitted += ("bias",) * (bias_init == "auto")
        self.bias = nn.Parameter(torch.tensor(0.0 if self.has_prior else float(bias_init)))

    def expect_batches(self, batch_size: int) -> None:
        """Set a bias without a number so that every pair starts with the probability p = 1 / B."""
        if self.has_prior:
            self.bias.data.fill_(-math.log(max(batch_size, 2) - 1))

    def of_logits(self, logits: Tensor, weight: float) -> Tensor:
        """Return the loss of logits (…, B, C)."""
        matches = logits.diagonal(dim1=-2, dim2=-1)
        negatives = functional.softplus(logits).sum(-1) - functional.softplus(matches)
        return (functional.softplus(-matches) + weight * negatives).mean()

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        """Return the loss of features (B, D) and (B, D); several processes never hold the features of all."""
        total = len(image_index)
        block = partial(self.by_tiles, sigmoid_sum, image_index)
        ring = partial(sum_round_the_ring, block, self.processes, total)
        return PairSum.apply(ring, x, y, self.logit_scale.exp(), self.bias) / total
