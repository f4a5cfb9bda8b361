"""Softmax losses: each feature picks its match among the batch."""

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from frozenalign.configuration.parameters import PositiveFloat, Probability
from frozenalign.losses.registry import FixedTemperature, register_loss
from frozenalign.losses.tiled import PairSum, TiledLoss, log_sums, softmax_sum


def cross_entropy_of_logits(logits: Tensor, weight: float, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of logits (…, B, C) with their diagonal, each other one counted `weight` times."""
    matches = logits.diagonal(dim1=-2, dim2=-1)
    others = torch.diagonal_scatter(logits, torch.full_like(matches, -torch.inf), dim1=-2, dim2=-1)
    total = torch.logaddexp(others.logsumexp(-1) + math.log(weight), matches)
    if not label_smoothing:
        return (total - matches).mean()
    mean = (weight * logits.sum(-1) + (1 - weight) * matches) / (1 + weight * (logits.shape[-1] - 1))
    return (total - matches + label_smoothing * (matches - mean)).mean()


class SoftmaxLoss(TiledLoss):
    """A loss of the cross-entropies of both directions over the batch, with smoothed labels.

    directions: how often the mean of both directions counts.
    """

    label_smoothing = 0.0
    directions = 1

    def of_logits(self, logits: Tensor, weight: float) -> Tensor:
        """Return the loss of logits (…, B, C)."""
        return self.directions * cross_entropy_of_logits(logits, weight, self.label_smoothing)

    def _cross_entropies(self, x: Tensor, y: Tensor, image_index: Tensor, scale: Tensor) -> Tensor:
        """Return CE_row + CE_col of the logits scale x yᵀ, whose diagonal holds the matches."""
        count, own_y = len(image_index), y
        y, columns = self.processes.gathered(own_y, count), slice(0, count)
        by_row, by_column = self.by_tiles(log_sums, image_index, columns, x, y, scale)
        by_column = self._over_processes(by_column)
        compute = partial(self.by_tiles, softmax_sum, image_index, columns, by_row, by_column)
        total = PairSum.apply(compute, x, y, scale)
        if self.label_smoothing:
            matches = (x * own_y).sum()
            mean_of_each_row = x.sum(0) @ y.sum(0) / count
            total = total + 2 * self.label_smoothing * scale * (matches - mean_of_each_row)
        return total / count

    def _over_processes(self, by_column: Tensor) -> Tensor:
        """Return log Σ exp (B,) of the columns over all rows, from those over this process's rows."""
        count = self.processes.count
        return by_column if count == 1 else self.processes.gathered(by_column[None], count).logsumexp(0)


@register_loss("clip")
class CLIPLoss(SoftmaxLoss):
    """Symmetric softmax loss with a learned scale: ½ (CE_row(s S) + CE_col(s S)).

    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision.

    temperature: start of 1 / s; s is kept in [1, 100]; auto fits it to the validation features at the start.
    label_smoothing: share of the target spread over the whole batch.
    """

    published_temperature = 0.07
    bounds = (0.01, 1.0)

    def __init__(
        self, *, temperature: PositiveFloat | Literal["auto"] = 0.07, label_smoothing: Probability = 0.0
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / self.numeric(temperature))))

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        """Return the loss of features (B, D) and (B, D)."""
        return self._cross_entropies(x, y, image_index, self.logit_scale.exp()) / 2

    def after_step(self) -> None:
        """Keep the temperature, 1 / s, within its bounds."""
        low, high = self.bounds
        self.logit_scale.data.clamp_(-math.log(high), -math.log(low))


@register_loss("infonce")
class InfoNCELoss(FixedTemperature, SoftmaxLoss):
    """Symmetric softmax loss with a fixed temperature: ½ (CE_row(S / T) + CE_col(S / T)).

    van den Oord et al. 2018, Representation Learning with Contrastive Predictive Coding.

    temperature: T, not learned; auto fits it to the validation features at the start.
    label_smoothing: share of the target spread over the whole batch.
    """

    learns_temperature = False
    published_temperature = 0.05

    def __init__(
        self, *, temperature: PositiveFloat | Literal["auto"] = 0.05, label_smoothing: Probability = 0.0
    ) -> None:
        super().__init__()
        self.temperature = self.numeric(temperature)
        self.label_smoothing = label_smoothing

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        """Return the loss of features (B, D) and (B, D)."""
        return self._cross_entropies(x, y, image_index, x.new_full((), 1 / self.temperature)) / 2


@register_loss("align")
class ALIGNLoss(SoftmaxLoss):
    """Softmax losses of both directions, added up: CE_row(S / τ) + CE_col(S / τ), with label smoothing.

    Jia et al. 2021, Scaling Up Visual and Vision-Language Representation Learning With Noisy Text Supervision.

    temperature: start of τ, learned without bounds; auto fits it to the validation features at the start.
    label_smoothing: share of the target spread over the whole batch.
    """

    published_temperature = 1.0
    directions = 2

    def __init__(
        self, *, temperature: PositiveFloat | Literal["auto"] = 1.0, label_smoothing: Probability = 0.1
    ) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(self.numeric(temperature)))
        self.label_smoothing = label_smoothing

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        """Return the loss of features (B, D) and (B, D)."""
        return self._cross_entropies(x, y, image_index, 1 / self.temperature)
