"""Closed-form aligners: second moments of the training pairs in, linear maps of both modalities out.

A baseline yields candidates over its regularisers; the caller keeps the one that is best on the validation split.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workflow.lib.errors import UserError

RELATIVE_REGULARIZERS = (0.03, 0.1, 0.3, 1.0, 3.0)
CORRELATION_POWERS = (0.5, 0.75, 1.0)


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
        """Sum over chunks of pairs, images (b, D_image) and texts (b, D_text); only sums and one chunk are held."""
        count, shifts, sums, products = 0, None, None, None
        for images, texts in chunks:
            x, y = images.float(), texts.float()
            if shifts is None:
                shifts = (x.mean(0), y.mean(0))
            x, y = x - shifts[0], y - shifts[1]
            chunk_sums = [x.sum(0).double(), y.sum(0).double()]
            chunk_products = [(x.T @ x).double(), (y.T @ y).double(), (x.T @ y).double()]
            sums = chunk_sums if sums is None else [a + b for a, b in zip(sums, chunk_sums, strict=True)]
            products = chunk_products if products is None else _added(products, chunk_products)
            count += len(x)
        if shifts is None:
            raise ValueError("moments of no pairs")
        x_mean, y_mean = (total / count for total in sums)
        return cls(
            shifts[0].double() + x_mean,
            shifts[1].double() + y_mean,
            products[0] / count - torch.outer(x_mean, x_mean),
            products[1] / count - torch.outer(y_mean, y_mean),
            products[2] / count - torch.outer(x_mean, y_mean),
        )


def _added(sums: list[Tensor], more: list[Tensor]) -> list[Tensor]:
    for total, part in zip(sums, more, strict=True):
        total += part
    return sums


@dataclass(frozen=True)
class LinearPair:
    """Linear maps of both modalities into one space of K dimensions, as nn.Linear holds them: y = W (x - mean).

    image_map (K, D_image), text_map (K, D_text); the means have D entries.
    """

    image_mean: Tensor
    image_map: Tensor
    text_mean: Tensor
    text_map: Tensor


@dataclass(frozen=True)
class Candidate:
    """A fitted pair of maps with the hyperparameters that gave it."""

    chosen: dict[str, Any]
    pair: LinearPair


Baseline = Callable[[Moments], Iterator[Candidate]]
BASELINES: dict[str, Baseline] = {}


def register_baseline(name: str) -> Callable[[Baseline], Baseline]:
    """Register a baseline under the name that `baselines:` gives; a name is taken once."""

    def register(baseline: Baseline) -> Baseline:
        if name in BASELINES:
            raise ValueError(f"the baseline {name!r} is registered twice")
        BASELINES[name] = baseline
        return baseline

    return register


@register_baseline("raw_cosine")
def raw_cosine(moments: Moments) -> Iterator[Candidate]:
    """Cosine of the raw embeddings, which must have one width."""
    image_dim, text_dim = len(moments.image_mean), len(moments.text_mean)
    if image_dim != text_dim:
        raise UserError(
            f"raw_cosine needs embeddings of one width, but images have {image_dim} dimensions and texts {text_dim}: "
            "take it out of `baselines`"
        )
    identity, zero = torch.eye(image_dim), torch.zeros(image_dim)
    yield Candidate({}, LinearPair(zero, identity, zero, identity))


@register_baseline("ridge")
def ridge(moments: Moments) -> Iterator[Candidate]:
    """Ridge regression from image to text embeddings, compared in the centred text space (Hoerl and Kennard 1970)."""
    values, vectors = torch.linalg.eigh(moments.image_covariance)
    rotated = vectors.T @ moments.cross_covariance
    for relative in RELATIVE_REGULARIZERS:
        shrunk = rotated / (values.clamp(min=0) + relative * _mean_variance(moments.image_covariance))[:, None]
        weights = (vectors @ shrunk).T
        yield Candidate({"regularizer": relative}, _pair(moments, weights, torch.eye(len(moments.text_mean))))


@register_baseline("procrustes")
def procrustes(moments: Moments) -> Iterator[Candidate]:
    """Orthogonal map between the principal components of both modalities, cut to one width (Schönemann 1966)."""
    image_axes, text_axes = (_principal_axes(c) for c in (moments.image_covariance, moments.text_covariance))
    most = min(len(image_axes), len(text_axes))
    for width in sorted({max(1, most // part) for part in (1, 2, 4, 8)}):
        x, y = image_axes[:width], text_axes[:width]
        left, _, right = torch.linalg.svd(x @ moments.cross_covariance @ y.T)
        yield Candidate({"width": width}, _pair(moments, (left @ right).T @ x, y))


@register_baseline("cca")
def cca(moments: Moments) -> Iterator[Candidate]:
    """Regularised canonical correlation analysis, each direction weighted by a power of its correlation.

    Hotelling 1936; ridge form: Vinod 1976; weighting: Gong et al. 2014, A Multi-View Embedding Space.
    """
    image_eigen, text_eigen = (torch.linalg.eigh(c) for c in (moments.image_covariance, moments.text_covariance))
    for image_regularizer in RELATIVE_REGULARIZERS:
        for text_regularizer in RELATIVE_REGULARIZERS:
            image_whitening = _whitening(image_eigen, image_regularizer)
            text_whitening = _whitening(text_eigen, text_regularizer)
            between = image_whitening @ moments.cross_covariance @ text_whitening.T
            left, correlations, right = torch.linalg.svd(between, full_matrices=False)
            for power in CORRELATION_POWERS:
                weights = correlations.clamp(0, 1)[:, None] ** power
                chosen = {"image_regularizer": image_regularizer, "text_regularizer": text_regularizer, "power": power}
                image_map, text_map = weights * (left.T @ image_whitening), weights * (right @ text_whitening)
                yield Candidate(chosen, _pair(moments, image_map, text_map))


def _mean_variance(covariance: Tensor) -> Tensor:
    """Return the mean eigenvalue, the natural unit of a regulariser; one where nothing varies."""
    mean = covariance.diagonal().mean()
    return torch.where(mean > 0, mean, torch.ones_like(mean))


def _whitening(eigen: tuple[Tensor, Tensor], relative: float) -> Tensor:
    """Return the rows (D, D) of a whitening map by principal axis, with a regulariser relative to the mean variance."""
    values, vectors = eigen
    unit = values.mean() if values.mean() > 0 else torch.ones_like(values.mean())
    return (vectors * (values.clamp(min=0) + relative * unit).rsqrt()).T


def _principal_axes(covariance: Tensor) -> Tensor:
    """Return the principal axes as rows (D, D), largest variance first."""
    return torch.linalg.eigh(covariance)[1].T.flip(0)


def _pair(moments: Moments, image_map: Tensor, text_map: Tensor) -> LinearPair:
    return LinearPair(moments.image_mean.float(), image_map.float(), moments.text_mean.float(), text_map.float())
