"""Canonical directions of two modalities, found in as many dimensions as the narrower one has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from frozenalign.closed_forms.decompositions import cholesky, in_columns, orthonormal, singular_vectors
from frozenalign.data.moments import Moments


@dataclass(frozen=True)
class CanonicalDirections:
    """Correlations (K,), largest first, and directions as rows, image (K, D_image) and text (K, D_text), in float64.

    K is the smaller of the widths. The directions of each modality are orthonormal under its regularised covariance.
    """

    image_regularizer: float
    text_regularizer: float
    correlations: Tensor
    image: Tensor
    text: Tensor


def canonical_directions(
    moments: Moments, image_regularizers: Sequence[float], text_regularizers: Sequence[float]
) -> Iterator[CanonicalDirections]:
    """Yield the directions for every pair of regularisers, those of the texts varying first.

    Regularisers are relative to the mean eigenvalue of the covariance; those of zero give plain CCA, which needs
    covariances of full rank.
    """
    image_dim, text_dim = moments.cross_covariance.shape
    text_is_wide = text_dim >= image_dim
    if text_is_wide:
        narrow, wide, cross = moments.image_covariance, moments.text_covariance, moments.cross_covariance.T
    else:
        narrow, wide, cross = moments.text_covariance, moments.image_covariance, moments.cross_covariance

    # The texts' regularisers come again with each one of the images.
    @lru_cache(maxsize=len(text_regularizers))
    def reduced(regularizer: float) -> tuple[Tensor, Tensor]:
        return _reduced(wide, cross, regularizer)

    for image_regularizer, text_regularizer in product(image_regularizers, text_regularizers):
        own = (image_regularizer, text_regularizer) if text_is_wide else (text_regularizer, image_regularizer)
        between, coordinates = reduced(own[1])
        with cholesky(narrow, own[0]) as factor:
            left, correlations, right = singular_vectors(factor.solve(in_columns(between)))
            narrow_rows = torch.from_numpy(factor.solve(left, transposed=True)).T
        wide_rows = torch.from_numpy(right) @ coordinates.T
        rows = (narrow_rows, wide_rows) if text_is_wide else (wide_rows, narrow_rows)
        yield CanonicalDirections(image_regularizer, text_regularizer, torch.from_numpy(correlations), *rows)


def _reduced(covariance: Tensor, cross: Tensor, regularizer: float) -> tuple[Tensor, Tensor]:
    """Return what the wider modality shares with the narrower one, in K coordinates: (K, K) and (D_wide, K).

    cross: (D_wide, K). The first is the cross-covariance of the narrower modality with the coordinates, the second has
    the directions of the coordinates as columns. With the covariance L Lᵀ and L⁻¹ cross = Q R they are Rᵀ and L⁻ᵀ Q:
    the coordinates are white, and all that is at right angles to them is uncorrelated with the narrower modality.
    """
    with cholesky(covariance, regularizer) as factor:
        basis, triangle = orthonormal(factor.solve(in_columns(cross)))
        return torch.from_numpy(triangle).T, torch.from_numpy(factor.solve(basis, transposed=True))
