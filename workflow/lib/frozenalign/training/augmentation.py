"""Random changes to a training batch of standardised embeddings: mixing, noise, dropout."""

from dataclasses import dataclass

import torch
from numpy.random import Generator
from torch import Tensor

from frozenalign.models.dropout import dropped


@dataclass(frozen=True)
class Augmentation:
    """Changes to a training batch, in this order; zero turns one off.

    mixup: α of the Beta(α, α) from which a step's λ is drawn: every pair becomes λ times itself and 1 - λ times
        another pair of the batch, the same λ and the same other pair for image and text (Zhang et al. 2018, mixup).
    image_noise, text_noise: standard deviation of zero-mean normal noise, in standard deviations of the input. In the
        mean it acts as a ridge of its square (Bishop 1995, Training with Noise is Equivalent to Tikhonov
        Regularization).
    input_dropout: share of input values set to zero, the others scaled up.
    """

    mixup: float
    image_noise: float
    text_noise: float
    input_dropout: float

    def __call__(self, images: Tensor, texts: Tensor, share: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return images (B, D_image) and texts (B, D_text) as a training step sees them; share: λ of the step."""
        if self.mixup:
            others = torch.randperm(len(images), device=images.device)
            images, texts = (_mixed(rows[others], rows, share) for rows in (images, texts))
        return self._disturbed(images, self.image_noise), self._disturbed(texts, self.text_noise)

    def shares(self, steps: int, generator: Generator) -> list[float]:
        """Return λ of an epoch's steps, never below one half: most of a mixed pair is the original pair."""
        if not self.mixup:
            return [1.0] * steps
        drawn = generator.beta(self.mixup, self.mixup, steps)
        return [max(value, 1.0 - value) for value in drawn.tolist()]

    def _disturbed(self, rows: Tensor, noise: float) -> Tensor:
        if noise:
            rows = torch.add(rows, torch.randn_like(rows), alpha=noise)
        return dropped(rows, self.input_dropout)


def _mixed(others: Tensor, rows: Tensor, share: float | Tensor) -> Tensor:
    """Return 1 - share of the others (B, D) and share of the rows (B, D), in their number format."""
    return torch.lerp(others.float(), rows.float(), share).to(rows.dtype)
