"""How sure a retrieval result is: test images are resampled with all their captions, the same ones for every run.

The captions of an image are not independent, so that images are what is drawn. Intervals are the percentile intervals
of Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS

RESAMPLES = 10_000
RESAMPLES_AT_ONCE = 200
CUTOFFS = [int(name.removeprefix("R@")) for name in RECALLS]


@dataclass(frozen=True)
class ImageHits:
    """What each of N test images adds to the recalls: i2t (N, 3) and t2i (N, 3) count hits at 1, 5 and 10.

    captions: (N,) how many captions each image has. Means over seeds are fractions.
    """

    i2t: np.ndarray
    t2i: np.ndarray
    captions: np.ndarray

    @classmethod
    def of(cls, i2t: np.ndarray, t2i: np.ndarray, caption_image: np.ndarray) -> "ImageHits":
        """Count the hits of 0-based ranks of images (N,) and captions (M,); caption j belongs to caption_image[j]."""
        images = len(i2t)
        return cls(
            np.stack([i2t < k for k in CUTOFFS], axis=1).astype(float),
            np.stack([np.bincount(caption_image, t2i < k, images) for k in CUTOFFS], axis=1),
            np.bincount(caption_image, minlength=images),
        )

    @classmethod
    def mean(cls, hits: Sequence["ImageHits"]) -> "ImageHits":
        """Return the mean hits of several seeds on the same test images."""
        return cls(
            np.mean([each.i2t for each in hits], axis=0),
            np.mean([each.t2i for each in hits], axis=0),
            _shared_captions(hits),
        )


@dataclass(frozen=True)
class Comparison:
    """How far one run's RSUM lies above another's on the same test images, with the 95 % interval of the difference."""

    difference: float
    low: float
    high: float

    @property
    def outcome(self) -> str:
        """Return better, worse, or not distinguishable where the interval holds zero."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not distinguishable"


def resampled_recalls(hits: Sequence[ImageHits], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return the recalls of runs on resampled images, in percent, (resamples, runs, 2 directions, 3 cutoffs).

    All runs see the same draws, so that differences between them are paired.
    """
    captions = _shared_captions(hits)
    table = np.concatenate(
        [np.concatenate([each.i2t, each.t2i], axis=1) for each in hits] + [captions[:, None]], axis=1
    )
    sums = np.concatenate([weights @ table for weights in _weights(len(captions), resamples, seed)])
    recalls = sums[:, :-1].reshape(resamples, len(hits), len(DIRECTIONS), len(CUTOFFS))
    queries = np.stack([np.full(resamples, len(captions)), sums[:, -1]], axis=1)
    return 100.0 * recalls / queries[:, None, :, None]


def recall_intervals(hits: ImageHits, resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """Return the 95 % intervals of the recalls and of RSUM, laid out as in metrics.json."""
    recalls = resampled_recalls([hits], resamples, seed)[:, 0]
    intervals: dict = {
        direction: {name: interval(recalls[:, d, k]) for k, name in enumerate(RECALLS)}
        for d, direction in enumerate(DIRECTIONS)
    }
    return intervals | {"RSUM": interval(recalls.sum((1, 2)))}


def compared(difference: float, first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compare two runs by their observed difference and their RSUMs on the same draws, (resamples,) each."""
    return Comparison(difference, *interval(first - second))


def interval(values: np.ndarray) -> list[float]:
    """Return the ends of the central 95 % of values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def _weights(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, (b, images), over blocks of resamples."""
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
