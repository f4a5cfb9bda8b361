"""The registry of closed forms, and their results.

A baseline is a function of the moments of the training pairs that yields candidates over its hyperparameters. One that
compares raw embeddings is registered with `needs_equal_widths=True`.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from frozenalign.configuration.registrations import baselines
from frozenalign.configuration.registry import Registry
from frozenalign.models.dual_encoder import unit
from frozenalign.system.products import blocks

BASELINES = Registry("baseline", baselines)
register_baseline = BASELINES.register
ROWS_AT_ONCE = 1024


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
        """Map images (N, D_image) and texts (M, D_text) to unit vectors (N, K) and (M, K)."""
        return project(images, self.image_mean, self.image_map), project(texts, self.text_mean, self.text_map)

    def weighted(self, weights: Tensor) -> "LinearPair":
        """Return the maps into the first K' dimensions, each multiplied by its weight, (K',)."""
        image_map, text_map = (weights[:, None] * rows[: len(weights)] for rows in (self.image_map, self.text_map))
        return replace(self, image_map=image_map, text_map=text_map)


def project(rows: Tensor, mean: Tensor, weight: Tensor) -> Tensor:
    """Return (x - mean) weightᵀ of rows (N, D), scaled to length one, (N, K), on the device of the rows."""
    mean, weight = mean.to(rows.device), weight.to(rows.device)
    projected = torch.empty(len(rows), len(weight), device=rows.device)
    for part in blocks(len(rows), ROWS_AT_ONCE):
        projected[part] = unit((rows[part].float() - mean) @ weight.T)
    return projected


@dataclass(frozen=True)
class Candidate:
    """Fitted maps and the hyperparameters that gave them.

    maps: may be shared by candidates that keep and weight their dimensions differently. weights: of the dimensions that
    are kept, (K,) in float32; without weights, the maps are taken as they are.
    """

    chosen: dict[str, Any]
    maps: LinearPair
    weights: Tensor | None = None

    @property
    def pair(self) -> LinearPair:
        """Return the maps of this candidate, computed anew where it has weights."""
        return self.maps if self.weights is None else self.maps.weighted(self.weights)
