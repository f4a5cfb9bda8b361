"""Metrics of retrieval ranks, their registry, and their uncertainty. Recalls and means of shares are percentages."""

from collections.abc import Callable

import numpy as np

from workflow.lib.ranks import Ranks

METRICS: dict[str, tuple[Callable[[Ranks, np.ndarray], float], tuple[str, ...]]] = {}
DIRECTIONS = ("i2t", "t2i")
RECALLS = ("R@1", "R@5", "R@10")


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


@register_metric("R@1")
def recall_at_1(ranks: Ranks, queries: np.ndarray) -> float:
    """Return the share of queries whose match comes first, in percent."""
    return recall(queries, 1)


@register_metric("R@5")
def recall_at_5(ranks: Ranks, queries: np.ndarray) -> float:
    """Return the share of queries whose match is among the first five, in percent."""
    return recall(queries, 5)


@register_metric("R@10")
def recall_at_10(ranks: Ranks, queries: np.ndarray) -> float:
    """Return the share of queries whose match is among the first ten, in percent."""
    return recall(queries, 10)


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


def bootstrap_intervals(ranks: Ranks, resamples: int = 1000, seed: int = 0) -> dict:
    """Return 95 % percentile intervals of the recalls and RSUM from resampled images with all their captions."""
    images = int(ranks.caption_image.max()) + 1
    cutoffs = [int(name.removeprefix("R@")) for name in RECALLS]
    captions = np.bincount(ranks.caption_image, minlength=images)
    i2t_hits = np.stack([ranks.i2t < k for k in cutoffs], axis=1).astype(float)
    t2i_hits = np.stack([np.bincount(ranks.caption_image, ranks.t2i < k, images) for k in cutoffs], axis=1)
    drawn = np.random.default_rng(seed).integers(images, size=(resamples, images))
    weights = np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(float)
    i2t = 100.0 * weights @ i2t_hits / images
    t2i = 100.0 * weights @ t2i_hits / (weights @ captions)[:, None]
    named = {"i2t": dict(zip(RECALLS, i2t.T, strict=True)), "t2i": dict(zip(RECALLS, t2i.T, strict=True))}
    intervals: dict = {
        direction: {name: _interval(values) for name, values in table.items()} for direction, table in named.items()
    }
    intervals["RSUM"] = _interval(i2t.sum(1) + t2i.sum(1))
    return intervals


def _interval(values: np.ndarray) -> list[float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]
