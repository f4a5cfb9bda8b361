"""Closed-form aligners: linear maps of both modalities from the second moments of the training pairs.

Regularisers are relative to the mean eigenvalue of the covariance, so that one grid serves any width and scale.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from frozenalign.closed_forms.registry import Candidate, LinearPair, register_baseline
from frozenalign.data.moments import Moments
from frozenalign.system.errors import UserError

RIDGE_REGULARIZERS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
IMAGE_REGULARIZERS = (0.03, 0.3, 3.0, 10.0)
TEXT_REGULARIZERS = (0.03, 1.0)
# Power of the correlations, and divisor of the number of directions: steep weights need no more than a third.
CORRELATION_WEIGHTINGS = ((0.5, 3), (0.5, 1), (1.0, 3))
PROCRUSTES_PARTS = (8, 4, 2, 1)


@register_baseline("raw_cosine")
def raw_cosine(moments: Moments, output_dim: int | None = None) -> Iterator[Candidate]:
    """Cosine of the raw embeddings, which must have one width."""
    image_dim, text_dim = len(moments.image_mean), len(moments.text_mean)
    if image_dim != text_dim:
        raise UserError(
            f"raw_cosine needs embeddings of one width, but images have {image_dim} dimensions and texts {text_dim}: "
            "remove raw_cosine from `baselines`"
        )
    zero = torch.zeros_like(moments.image_mean, dtype=torch.float32)
    identity = torch.diag(zero + 1)
    yield Candidate({}, LinearPair(zero, identity, zero, identity))


@register_baseline("ridge")
def ridge(moments: Moments, output_dim: int | None = None) -> Iterator[Candidate]:
    """Ridge regression from image to text embeddings, compared in the centred text space (Hoerl and Kennard 1970)."""
    image = PrincipalAxes.of(moments.image_covariance)
    rotated = image.vectors.T @ moments.cross_covariance
    identity = torch.diag(torch.ones_like(moments.text_mean))
    for regularizer in RIDGE_REGULARIZERS:
        weights = image.vectors @ (image.whitening(regularizer).square()[:, None] * rotated)
        yield Candidate({"regularizer": regularizer}, _pair(moments, weights.T, identity))


@register_baseline("procrustes")
def procrustes(moments: Moments, output_dim: int | None = None) -> Iterator[Candidate]:
    """Orthogonal map between the principal components of both modalities, cut to one width (Schönemann 1966)."""
    image, text = PrincipalAxes.of(moments.image_covariance), PrincipalAxes.of(moments.text_covariance)
    rotated = image.vectors.T @ moments.cross_covariance @ text.vectors
    most = _most_dimensions(moments, output_dim)
    for width in sorted({max(1, most // part) for part in PROCRUSTES_PARTS}):
        left, _, right = torch.linalg.svd(rotated[:width, :width])
        image_map = (left @ right).T @ image.vectors.T[:width]
        yield Candidate({"width": width}, _pair(moments, image_map, text.vectors.T[:width]))


@register_baseline("cca")
def cca(moments: Moments, output_dim: int | None = None) -> Iterator[Candidate]:
    """Regularised canonical correlation analysis, each direction weighted by a power of its correlation.

    Hotelling 1936, Relations Between Two Sets of Variates; ridge form: Vinod 1976, Canonical Ridge and Econometrics of
    Joint Production; weighting: Gong et al. 2014, A Multi-View Embedding Space for Modeling Internet Images.
    """
    return (candidate for _, candidate in cca_by_width(moments, [output_dim]))


def cca_by_width(moments: Moments, output_dims: Sequence[int | None]) -> Iterator[tuple[int | None, Candidate]]:
    """Yield (output_dim, candidate) of the CCA for all of `output_dims`, decomposing once for all of them."""
    image, text = PrincipalAxes.of(moments.image_covariance), PrincipalAxes.of(moments.text_covariance)
    rotated = image.vectors.T @ moments.cross_covariance @ text.vectors
    for image_regularizer, text_regularizer in product(IMAGE_REGULARIZERS, TEXT_REGULARIZERS):
        regularizers = {"image_regularizer": image_regularizer, "text_regularizer": text_regularizer}
        correlations, *directions = canonical_directions(image, text, rotated, **regularizers)
        for output_dim, (power, part) in product(output_dims, CORRELATION_WEIGHTINGS):
            width = max(1, _most_dimensions(moments, output_dim) // part)
            weights = correlations[:width, None] ** power
            chosen = regularizers | {"power": power, "width": width}
            yield output_dim, Candidate(chosen, _pair(moments, *(weights * rows[:width] for rows in directions)))


@dataclass(frozen=True)
class PrincipalAxes:
    """Eigenvalues (D,), largest first and none negative, and eigenvectors as columns (D, D) of a covariance."""

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, covariance: Tensor) -> "PrincipalAxes":
        """Decompose a covariance (D, D)."""
        values, vectors = torch.linalg.eigh(covariance)
        return cls(values.flip(0).clamp(min=0), vectors.flip(1))

    def whitening(self, regularizer: float) -> Tensor:
        """Return (value + regularizer · mean value)^(-1/2) by axis, (D,); zero where nothing varies at all."""
        values = self.values + regularizer * self.values.mean()
        return torch.where(values > 0, values, torch.inf).rsqrt()


def canonical_directions(
    image: PrincipalAxes, text: PrincipalAxes, rotated: Tensor, image_regularizer: float, text_regularizer: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return correlations (K,), largest first, and directions as rows, image (K, D_image) and text (K, D_text).

    K = min(D_image, D_text). rotated: the cross-covariance (D_image, D_text) in both principal axes. Regularisers of
    zero give plain CCA.
    """
    image_whitening, text_whitening = image.whitening(image_regularizer), text.whitening(text_regularizer)
    between = image_whitening[:, None] * rotated * text_whitening
    left, correlations, right = torch.linalg.svd(between, full_matrices=False)
    image_rows = (left.T * image_whitening) @ image.vectors.T
    return correlations, image_rows, (right * text_whitening) @ text.vectors.T


def _most_dimensions(moments: Moments, output_dim: int | None) -> int:
    widest = min(len(moments.image_mean), len(moments.text_mean))
    return widest if output_dim is None else min(widest, output_dim)


def _pair(moments: Moments, image_map: Tensor, text_map: Tensor) -> LinearPair:
    return LinearPair(moments.image_mean.float(), image_map.float(), moments.text_mean.float(), text_map.float())
