"""Metrics of queries with several positives, and what chance gives. R is the number of positives of a query.

Definitions are those of ECCV Caption (Chun et al. 2022), which takes R-Precision and mAP@R from Musgrave et al. 2020, A
Metric Learning Reality Check.
"""

import numpy as np

from frozenalign.evaluation.benchmarks.positive_places import Places
from frozenalign.evaluation.metrics import RECALLS


def values_by_query(places: Places) -> dict[str, np.ndarray]:
    """Return each metric of each query, (Q,), from 0 to 1.

    R@K: whether a positive is among the first K. R-Precision: the share of positives among the first R. mAP@R: the sum
    of the precisions at the positives among the first R, over R.
    """
    queries = len(places.positives)
    first = np.searchsorted(places.query, np.arange(queries))
    # A query of which no positive is among the candidates never hits.
    best = np.full(queries, np.iinfo(np.int64).max)
    there = np.bincount(places.query, minlength=queries) > 0
    best[there] = places.place[first[there]]
    within = places.place < places.positives[places.query]
    number = np.arange(len(places.query)) - first[places.query] + 1
    precision = np.where(within, number / (places.place + 1), 0.0)
    found = {name: (best < k).astype(float) for name, k in RECALLS.items()}
    found["R-Precision"] = np.bincount(places.query, within, queries) / places.positives
    return found | {"mAP@R": np.bincount(places.query, precision, queries) / places.positives}


def chance_of(places: Places) -> dict[str, float]:
    """Return the expected metrics of a random ranking, in percent."""
    total, positives = places.candidates, places.positives
    there = np.bincount(places.query, minlength=len(positives))
    found = {name: 100.0 * float((1 - _none_among(total, there, k)).mean()) for name, k in RECALLS.items()}
    found["R-Precision"] = 100.0 * float((there / total * np.minimum(positives, total) / positives).mean())
    return found | {
        "mAP@R": 100.0 * float(np.mean([_map_at_r(total, *both) for both in zip(there, positives, strict=True)]))
    }


def _none_among(total: int, positives: np.ndarray, k: int) -> np.ndarray:
    """Return the probability that none of so many positives (Q,) is among the first k of `total` in random order."""
    drawn = np.arange(min(k, total))
    left = np.maximum(total - positives[:, None] - drawn, 0)
    return np.prod(left / (total - drawn), axis=1)


def _map_at_r(total: int, there: int, positives: int) -> float:
    """Return the expected mAP@R of one query of whose positives so many are there.

    Place r holds a positive with probability p = there / total, and each place before it then one with probability
    (there - 1) / (total - 1).
    """
    place = np.arange(1, min(positives, total) + 1)
    beside = (there - 1) / (total - 1) if total > 1 else 0.0
    return float((there / total * (1 + (place - 1) * beside) / place).sum() / positives) if there else 0.0
