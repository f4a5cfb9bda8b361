"""The registry of closed forms, and their results.

A baseline is a function of the moments of the training pairs, called as baseline(moments) or
baseline(moments, output_dim), that yields candidates over its hyperparameters. output_dim is the most dimensions K that
may be kept; raw_cosine and ridge compare in the space of the texts, whatever its width.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from frozenalign.configuration.registrations import baselines
from frozenalign.configuration.registry import Registry
from frozenalign.models.dual_encoder import unit

BASELINES = Registry("baseline", baselines)
register_baseline = BASELINES.register


@dataclass(frozen=True)
class LinearPair:
    """Linear maps of both modalities into one space of K dimensions, as nn.Linear holds them, in float32.

    image_mean (D_image,), image_map (K, D_image), text_mean (D_text,), text_map (K, D_text).
    """

    image_mean: Tensor
    image_map: Tensor
    text_mean: Tensor
    text_map: Tensor

    def project(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (N, D_image) and texts (M, D_text) to unit vectors (N, K) and (M, K): (x - mean) mapᵀ, scaled."""
        projected_images = (images.float() - self.image_mean) @ self.image_map.T
        projected_texts = (texts.float() - self.text_mean) @ self.text_map.T
        return unit(projected_images), unit(projected_texts)


@dataclass(frozen=True)
class Candidate:
    """A fitted pair of maps and its hyperparameters."""

    chosen: dict[str, Any]
    pair: LinearPair
