"""Closed-form aligners: linear maps of both modalities from the second moments of the training pairs.

Regularisers are relative to the mean eigenvalue of the covariance, so that one grid serves any width and scale.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

from frozenalign.closed_forms.canonical_directions import canonical_directions
from frozenalign.closed_forms.decompositions import cholesky, in_columns, leading_axes
from frozenalign.closed_forms.registry import Candidate, LinearPair, register_baseline
from frozenalign.data.moments import Moments
from frozenalign.system.errors import UserError

RIDGE_REGULARIZERS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
IMAGE_REGULARIZERS = (0.03, 0.3, 3.0, 10.0)
TEXT_REGULARIZERS = (0.03, 1.0)
# Power of the correlations, and divisor of the number of directions: steep weights need no more than a third.
CORRELATION_WEIGHTINGS = ((0.5, 3), (0.5, 1), (1.0, 3))
PROCRUSTES_PARTS = (8, 4, 2, 1)


@register_baseline("raw_cosine", needs_equal_widths=True)
def raw_cosine(moments: Moments) -> Iterator[Candidate]:
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
def ridge(moments: Moments) -> Iterator[Candidate]:
    """Ridge regression from image to text embeddings, compared in the centred text space (Hoerl and Kennard 1970)."""
    identity = torch.diag(torch.ones_like(moments.text_mean, dtype=torch.float32))
    for regularizer in RIDGE_REGULARIZERS:
        with cholesky(moments.image_covariance, regularizer) as factor:
            weights = factor.solve(in_columns(moments.cross_covariance))
            weights = factor.solve(weights, transposed=True)
        yield Candidate({"regularizer": regularizer}, _pair(moments, torch.from_numpy(weights).T, identity))


@register_baseline("procrustes")
def procrustes(moments: Moments) -> Iterator[Candidate]:
    """Orthogonal map between the principal components of both modalities, cut to one width (Schönemann 1966)."""
    most = _most_dimensions(moments)
    image, text = (leading_axes(each, most) for each in (moments.image_covariance, moments.text_covariance))
    rotated = image.T @ moments.cross_covariance @ text
    for width in sorted({max(1, most // part) for part in PROCRUSTES_PARTS}):
        left, _, right = torch.linalg.svd(rotated[:width, :width])
        image_map = (left @ right).T @ image.T[:width]
        yield Candidate({"width": width}, _pair(moments, image_map, text.T[:width]))


@register_baseline("cca")
def cca(moments: Moments) -> Iterator[Candidate]:
    """Regularised canonical correlation analysis, each direction weighted by a power of its correlation.

    Hotelling 1936, Relations Between Two Sets of Variates; ridge form: Vinod 1976, Canonical Ridge and Econometrics of
    Joint Production; weighting: Gong et al. 2014, A Multi-View Embedding Space for Modeling Internet Images.
    """
    return (candidate for _, candidate in cca_by_width(moments, [None]))


def cca_by_width(moments: Moments, output_dims: Sequence[int | None]) -> Iterator[tuple[int | None, Candidate]]:
    """Yield (output_dim, candidate) of the CCA for all of `output_dims`, decomposing once for all of them."""
    for found in canonical_directions(moments, IMAGE_REGULARIZERS, TEXT_REGULARIZERS):
        regularizers = {"image_regularizer": found.image_regularizer, "text_regularizer": found.text_regularizer}
        maps = _pair(moments, found.image, found.text)
        for output_dim, (power, part) in product(output_dims, CORRELATION_WEIGHTINGS):
            width = max(1, _most_dimensions(moments, output_dim) // part)
            weights = (found.correlations[:width] ** power).float()
            yield output_dim, Candidate(regularizers | {"power": power, "width": width}, maps, weights)


def _most_dimensions(moments: Moments, output_dim: int | None = None) -> int:
    widest = min(len(moments.image_mean), len(moments.text_mean))
    return widest if output_dim is None else min(widest, output_dim)


def _pair(moments: Moments, image_map: Tensor, text_map: Tensor) -> LinearPair:
    return LinearPair(moments.image_mean.float(), image_map.float(), moments.text_mean.float(), text_map.float())
