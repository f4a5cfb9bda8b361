"""Bootstrap intervals of retrieval results. Images are resampled with all their captions, which are not independent.

Intervals are the percentile intervals of Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS

RESAMPLES = 10_000
RESAMPLES_AT_ONCE = 200


@dataclass(frozen=True)
class ImageHits:
    """The hits of each of N test images: i2t (N, 3) and t2i (N, 3) at cutoffs 1, 5 and 10, fractions for several seeds.

    captions: (N,) number of captions of each image.
    """

    i2t: np.ndarray
    t2i: np.ndarray
    captions: np.ndarray

    @classmethod
    def of(cls, i2t: np.ndarray, t2i: np.ndarray, caption_image: np.ndarray) -> "ImageHits":
        """Count the hits of the 0-based ranks i2t (N,) and t2i (M,); caption j belongs to image caption_image[j]."""
        images = len(i2t)
        return cls(
            np.stack([i2t < k for k in RECALLS.values()], axis=1).astype(float),
            np.stack([np.bincount(caption_image, t2i < k, images) for k in RECALLS.values()], axis=1),
            np.bincount(caption_image, minlength=images),
        )

    @classmethod
    def mean(cls, hits: Sequence["ImageHits"]) -> "ImageHits":
        """Return the mean hits of several seeds on the same test images."""
        i2t, t2i = (np.mean([getattr(each, name) for each in hits], axis=0) for name in ("i2t", "t2i"))
        return cls(i2t, t2i, _shared_captions(hits))


@dataclass(frozen=True)
class Comparison:
    """The difference between the RSUMs of two runs on the same test images, with its 95 % interval."""

    difference: float
    low: float
    high: float

    @property
    def outcome(self) -> str:
        """Return better, worse, or not distinguishable if the interval contains zero."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not distinguishable"


def resampled_recalls(hits: Sequence[ImageHits], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return the recalls of runs on resampled images, in percent, (resamples, runs, 2 directions, 3 cutoffs).

    All runs use the same draws, so their differences are paired.
    """
    captions = _shared_captions(hits)
    table = np.hstack([*(part for each in hits for part in (each.i2t, each.t2i)), captions[:, None]])
    sums = np.concatenate([weights @ table for weights in _weights(len(captions), resamples, seed)])
    recalls = sums[:, :-1].reshape(resamples, len(hits), len(DIRECTIONS), len(RECALLS))
    queries = np.stack([np.full(resamples, len(captions)), sums[:, -1]], axis=1)
    return 100.0 * recalls / queries[:, None, :, None]


def recall_intervals(hits: ImageHits, resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """Return the 95 % intervals of the recalls and of RSUM, in the layout of metrics.json."""
    return intervals_of_all([hits], resamples, seed)[0]


def intervals_of_all(hits: Sequence[ImageHits], resamples: int = RESAMPLES, seed: int = 0) -> list[dict]:
    """Return what `recall_intervals` returns for each of several rankings of the same images, which are drawn once."""
    recalls = resampled_recalls(hits, resamples, seed)
    return [_intervals(recalls[:, ranking]) for ranking in range(len(hits))]


def _intervals(recalls: np.ndarray) -> dict:
    """Return the intervals of recalls (resamples, 2 directions, 3 cutoffs) and of their sum."""
    intervals: dict = {
        direction: {name: interval(recalls[:, d, k]) for k, name in enumerate(RECALLS)}
        for d, direction in enumerate(DIRECTIONS)
    }
    return intervals | {"RSUM": interval(recalls.sum((1, 2)))}


def mean_intervals(
    values: np.ndarray, image: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> list[list[float]]:
    """Return the 95 % intervals of the means of values (Q, K), K of them; query q belongs to image[q] (Q,).

    Images are drawn with all their queries; those without a query are not drawn.
    """
    _, image = np.unique(image, return_inverse=True)
    queries = np.bincount(image)
    sums = [np.bincount(image, column) for column in values.T]
    table = np.stack([*sums, queries], axis=1)
    drawn = np.concatenate([weights @ table for weights in _weights(len(queries), resamples, seed)])
    means = drawn[:, :-1] / drawn[:, -1:]
    return [interval(column) for column in means.T]


def compared(difference: float, first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compare two runs by their observed difference and their RSUMs on the same draws, each (resamples,)."""
    return Comparison(difference, *interval(first - second))


def interval(values: np.ndarray) -> list[float]:
    """Return the ends of the central 95 % of values."""
    return np.percentile(values, [2.5, 97.5]).tolist()


def _weights(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, (b, images), for blocks of b resamples."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        block = min(RESAMPLES_AT_ONCE, resamples - start)
        drawn = generator.integers(images, size=(block, images)) + np.arange(block)[:, None] * images
        yield np.bincount(drawn.ravel(), minlength=block * images).reshape(block, images).astype(float)


def _shared_captions(hits: Sequence[ImageHits]) -> np.ndarray:
    captions = hits[0].captions
    if not all(np.array_equal(each.captions, captions) for each in hits):
        raise ValueError("runs on different test images cannot be compared")
    return captions
