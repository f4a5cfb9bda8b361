"""Closed-form aligners: second moments of the training pairs in, linear maps of both modalities out.

A baseline yields candidates over its hyperparameters; the caller keeps the one that is best on the validation split.
Regularisers are relative to the mean eigenvalue of the covariance, so that one grid serves any width and scale.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from workflow.lib.errors import UserError
from workflow.lib.memory import memory_limit

PAIRS_AT_ONCE = 1024
PANEL_ROWS = 512
RIDGE_REGULARIZERS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
IMAGE_REGULARIZERS = (0.03, 0.3, 3.0, 10.0)
TEXT_REGULARIZERS = (0.03, 1.0)
# Power of the correlations, and the part of the directions that is kept: steep weights need no more than a third.
CORRELATION_WEIGHTINGS = ((0.5, 3), (0.5, 1), (1.0, 3))
PROCRUSTES_PARTS = (8, 4, 2, 1)


@dataclass(frozen=True)
class Moments:
    """Means (D,) and covariances of N training pairs, every pair counted once, in float64.

    image_covariance (D_image, D_image), text_covariance (D_text, D_text), cross_covariance (D_image, D_text).
    """

    image_mean: Tensor
    text_mean: Tensor
    image_covariance: Tensor
    text_covariance: Tensor
    cross_covariance: Tensor

    @classmethod
    def of(cls, chunks: Iterable[tuple[Tensor, Tensor]]) -> "Moments":
        """Sum over chunks of pairs, images (b, D_image) and texts (b, D_text), of any floating type.

        Beside one chunk, memory holds the sums, (D_image + D_text)² of float64, and some tens of megabytes. Widths of
        which the machine could not hold the sums are a UserError.
        """
        sums = None
        for images, texts in chunks:
            image_dim = images.shape[1]
            if sums is None:
                _refuse_too_wide(image_dim, texts.shape[1])
            for x, y in zip(images.split(PAIRS_AT_ONCE), texts.split(PAIRS_AT_ONCE), strict=True):
                rows = torch.cat([x, y], dim=1).float()
                sums = sums or _Sums(rows)
                sums.add(rows)
        if sums is None:
            raise ValueError("moments of no pairs")
        mean, covariance = sums.mean_and_covariance()
        return cls(
            mean[:image_dim],
            mean[image_dim:],
            covariance[:image_dim, :image_dim],
            covariance[image_dim:, image_dim:],
            covariance[:image_dim, image_dim:],
        )

    @classmethod
    def of_rows(cls, images: Tensor, texts: Tensor, text_image: Tensor) -> "Moments":
        """Sum over all pairs of unique images (N, D_image) and texts (M, D_text); text j shows image text_image[j]."""
        owners = text_image.split(PAIRS_AT_ONCE)
        parts = zip(owners, texts.split(PAIRS_AT_ONCE), strict=True)
        return cls.of((images.index_select(0, owner), part) for owner, part in parts)


def moments_fit(image_dim: int, text_dim: int) -> bool:
    """Say whether memory can hold the second moments of embeddings of these widths, and their covariances."""
    return _moment_bytes(image_dim, text_dim) <= memory_limit()


def _moment_bytes(image_dim: int, text_dim: int) -> int:
    return 2 * torch.float64.itemsize * (image_dim + text_dim) ** 2


def _refuse_too_wide(image_dim: int, text_dim: int) -> None:
    if moments_fit(image_dim, text_dim):
        return
    needed, there = (size / 1e9 for size in (_moment_bytes(image_dim, text_dim), memory_limit()))
    raise UserError(
        f"second moments of {image_dim} image and {text_dim} text dimensions take {needed:.0f} GB where there are "
        f"{there:.0f} GB: reduce the dimensions, or do without closed forms (`baselines: []`, and in experiments "
        "`skip: none`, `init: random`, `whitening: none` and a number for `noise`)"
    )


class _Sums:
    """Sums of rows (N, D) and of their outer products about a fixed point near the mean, so that little cancels.

    Products are float32, of one chunk; the sums are float64. Of the symmetric matrix only panels from the diagonal
    rightwards are summed.
    """

    def __init__(self, rows: Tensor) -> None:
        # The mean of equal numbers may be off by a rounding: the number itself makes a constant dimension exactly zero.
        constant = (rows == rows[0]).all(0)
        self.origin = torch.where(constant, rows[0], rows.mean(0))
        self.count = 0
        self.total = torch.zeros_like(self.origin, dtype=torch.float64)
        self.products = self.total.new_zeros(len(self.total), len(self.total))

    def add(self, rows: Tensor) -> None:
        rows = rows - self.origin
        self.count += len(rows)
        self.total += rows.sum(0)
        for start in range(0, rows.shape[1], PANEL_ROWS):
            end = start + PANEL_ROWS
            self.products[start:end, start:] += rows[:, start:end].T @ rows[:, start:]

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Return mean (D,) and covariance (D, D); the sums are used up."""
        for end in range(PANEL_ROWS, len(self.total), PANEL_ROWS):
            self.products[end:, end - PANEL_ROWS : end] = self.products[end - PANEL_ROWS : end, end:].T
        offset = self.total / self.count
        return self.origin + offset, self.products.div_(self.count).addr_(offset, offset, alpha=-1)


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
        return functional.normalize(projected_images, dim=1), functional.normalize(projected_texts, dim=1)


@dataclass(frozen=True)
class Candidate:
    """A fitted pair of maps with the hyperparameters that gave it."""

    chosen: dict[str, Any]
    pair: LinearPair


Baseline = Callable[..., Iterator[Candidate]]
BASELINES: dict[str, Baseline] = {}


def register_baseline(name: str) -> Callable[[Baseline], Baseline]:
    """Register a baseline under the name that `baselines:` gives; a name is taken once.

    A baseline is called as baseline(moments) or baseline(moments, output_dim) and yields candidates. output_dim is the
    most dimensions K that may be kept; raw_cosine and ridge compare in the space of the texts, whatever its width.
    """

    def register(baseline: Baseline) -> Baseline:
        if name in BASELINES:
            raise ValueError(f"the baseline {name!r} is registered twice")
        BASELINES[name] = baseline
        return baseline

    return register


def baseline_names() -> tuple[str, ...]:
    """Return the names of the registered baselines, sorted."""
    return tuple(sorted(BASELINES))


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
    image, text = PrincipalAxes.of(moments.image_covariance), PrincipalAxes.of(moments.text_covariance)
    rotated = image.vectors.T @ moments.cross_covariance @ text.vectors
    most = _most_dimensions(moments, output_dim)
    for image_regularizer, text_regularizer in product(IMAGE_REGULARIZERS, TEXT_REGULARIZERS):
        canonical = canonical_directions(image, text, rotated, image_regularizer, text_regularizer)
        for power, part in CORRELATION_WEIGHTINGS:
            width = max(1, most // part)
            weights = canonical.correlations[:width, None] ** power
            chosen = {
                "image_regularizer": image_regularizer,
                "text_regularizer": text_regularizer,
                "power": power,
                "width": width,
            }
            image_map, text_map = weights * canonical.image[:width], weights * canonical.text[:width]
            yield Candidate(chosen, _pair(moments, image_map, text_map))


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


@dataclass(frozen=True)
class CanonicalDirections:
    """Correlations (K,), largest first, and the directions as rows, image (K, D_image) and text (K, D_text)."""

    correlations: Tensor
    image: Tensor
    text: Tensor


def canonical_directions(
    image: PrincipalAxes, text: PrincipalAxes, rotated: Tensor, image_regularizer: float, text_regularizer: float
) -> CanonicalDirections:
    """Whiten both modalities and decompose what is left between them: K = min(D_image, D_text) directions.

    rotated (D_image, D_text): the cross-covariance in both principal axes. A regulariser of zero gives plain CCA.
    """
    image_whitening, text_whitening = image.whitening(image_regularizer), text.whitening(text_regularizer)
    between = image_whitening[:, None] * rotated * text_whitening
    left, correlations, right = torch.linalg.svd(between, full_matrices=False)
    image_rows = (left.T * image_whitening) @ image.vectors.T
    return CanonicalDirections(correlations, image_rows, (right * text_whitening) @ text.vectors.T)


def _most_dimensions(moments: Moments, output_dim: int | None) -> int:
    widest = min(len(moments.image_mean), len(moments.text_mean))
    return widest if output_dim is None else min(widest, output_dim)


def _pair(moments: Moments, image_map: Tensor, text_map: Tensor) -> LinearPair:
    return LinearPair(moments.image_mean.float(), image_map.float(), moments.text_mean.float(), text_map.float())
