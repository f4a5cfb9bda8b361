"""A penalty on projections that change the neighbourhoods of the frozen embeddings."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.05


@dataclass(frozen=True)
class Structure:
    """The penalty of a batch: its weight, and the frozen embeddings (B, D_image) and (B, D_text) that it compares with.

    Noise and mixing change what a head sees, not what its projections are to keep.
    """

    weight: float
    images: Tensor
    texts: Tensor

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the weighted penalties of image and text features (B, K), added up."""
        return self.weight * (structure_loss(self.images, x) + structure_loss(self.texts, y))


def structure_loss(embeddings: Tensor, projections: Tensor) -> Tensor:
    """Return the mean Jensen-Shannon divergence between the neighbourhoods of inputs (B, D) and outputs (B, K).

    A neighbourhood is the softmax of cosine similarities, about the batch mean, over the other rows of the batch. The
    first level of Gröger et al. 2025, With Limited Data for Multimodal Alignment, Let the STRUCTURE Guide You.
    """
    target, found = _neighbourhoods(embeddings.detach()), _neighbourhoods(projections)
    middle = torch.logaddexp(target, found) - math.log(2)
    to_target, to_found = ((log_p.exp() * (log_p - middle)).sum(1) for log_p in (target, found))
    return ((to_target + to_found) / 2).mean()


def _neighbourhoods(rows: Tensor) -> Tensor:
    """Return log-probabilities (B, B - 1) of the other rows as neighbours of each row."""
    rows, count = rows.float(), len(rows)
    unit = functional.normalize(rows - rows.mean(0), dim=1)
    logits = unit @ unit.T / TEMPERATURE
    others = logits.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)
    return torch.log_softmax(others, dim=1)
