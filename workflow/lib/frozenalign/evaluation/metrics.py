"""Metrics of retrieval ranks, and their registry. Recalls and means of shares are percentages."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DIRECTIONS = ("i2t", "t2i")
# The recalls of RSUM and their cutoffs.
RECALLS = {"R@1": 1, "R@5": 5, "R@10": 10}
# Further rankings by a model: key in metrics.json and name on the leaderboard.
CORRECTED = "hubness_corrected"
SECOND_RANKINGS = {"reranked": "re-ranked", CORRECTED: "hubness-corrected"}


@dataclass(frozen=True)
class Ranks:
    """The 0-based ranks of the matches of M captions and N images.

    t2i: (M,) rank of each caption's image among the N images.
    captions: (M,) rank of each caption for its own image, among the captions of other images and better own ones.
    caption_image: (M,) index of each caption's image.
    """

    t2i: np.ndarray
    captions: np.ndarray
    caption_image: np.ndarray

    @property
    def i2t(self) -> np.ndarray:
        """Return the best rank over each image's own captions, (N,)."""
        best = np.full(int(self.caption_image.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(best, self.caption_image, self.captions)
        return best


METRICS: dict[str, tuple[Callable[[Ranks, np.ndarray], float], tuple[str, ...]]] = {}


def register_metric(name: str, directions: tuple[str, ...] = DIRECTIONS) -> Callable:
    """Register a metric of (ranks, the 0-based ranks of one direction's queries) under its name in metrics.json."""

    def register(metric: Callable[[Ranks, np.ndarray], float]) -> Callable[[Ranks, np.ndarray], float]:
        if name in METRICS:
            raise ValueError(f"the metric {name!r} is registered twice")
        METRICS[name] = (metric, directions)
        return metric

    return register


def recall(queries: np.ndarray, k: int) -> float:
    """Return the share of queries (Q,) whose match ranks among the first k, in percent."""
    return 100.0 * float((queries < k).mean())


for _name, _cutoff in RECALLS.items():
    register_metric(_name)(lambda ranks, queries, k=_cutoff: recall(queries, k))


@register_metric("MedR")
def median_rank(ranks: Ranks, queries: np.ndarray) -> float:
    """Return the median rank, rounded down, 1-based."""
    return float(np.floor(np.median(queries)) + 1)


@register_metric("MeanR")
def mean_rank(ranks: Ranks, queries: np.ndarray) -> float:
    """Return the mean rank, 1-based."""
    return float(queries.mean() + 1)


@register_metric("MRR")
def mean_reciprocal_rank(ranks: Ranks, queries: np.ndarray) -> float:
    """Return the mean of one over the 1-based rank, in percent."""
    return 100.0 * float((1.0 / (queries + 1)).mean())


@register_metric("mAP@R", directions=("i2t",))
def mean_average_precision_at_r(ranks: Ranks, queries: np.ndarray) -> float:
    """Return mAP@R in percent: of an image with R captions, the precision at each own caption ranked within R, over R.

    Musgrave et al. 2020, A Metric Learning Reality Check.
    """
    owner = ranks.caption_image
    captions = np.bincount(owner)
    order = np.lexsort((ranks.captions, owner))
    first = np.cumsum(captions) - captions
    place = np.arange(len(owner)) - first[owner[order]]
    position = ranks.captions[order]
    precision = np.where(position < captions[owner[order]], (place + 1) / (position + 1), 0.0)
    return 100.0 * float((np.bincount(owner[order], precision) / captions).mean())


def summarize(ranks: Ranks) -> dict:
    """Return every metric of both directions and RSUM, the sum of their R@1, R@5 and R@10."""
    queries = {"i2t": ranks.i2t, "t2i": ranks.t2i}
    summary: dict = {
        direction: {
            name: metric(ranks, queries[direction]) for name, (metric, where) in METRICS.items() if direction in where
        }
        for direction in DIRECTIONS
    }
    summary["RSUM"] = sum(summary[direction][name] for direction in DIRECTIONS for name in RECALLS)
    return summary


def mean_of_folds(folds: list[dict]) -> dict:
    """Return the mean of several summaries, metric by metric; the RSUM is the mean of the folds' RSUMs."""
    mean = {
        direction: {name: float(np.mean([fold[direction][name] for fold in folds])) for name in folds[0][direction]}
        for direction in DIRECTIONS
    }
    return {"folds": len(folds), **mean, "RSUM": float(np.mean([fold["RSUM"] for fold in folds]))}
