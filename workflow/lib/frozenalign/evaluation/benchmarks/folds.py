"""The folds of a benchmark: parts of its images that are searched alone, whose recalls are averaged."""

import numpy as np

from frozenalign.data.benchmarks.positives import Positives
from frozenalign.evaluation.benchmarks.listed_positives import ListedPositives
from frozenalign.evaluation.benchmarks.pairs import NamedPairs
from frozenalign.evaluation.benchmarks.positive_metrics import chance_of, values_by_query
from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS
from frozenalign.evaluation.projections import Projections


def fold_recalls(
    projections: Projections, pairs: NamedPairs, positives: Positives
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean recalls of all folds by name, and chance; empty if an image of a fold is missing."""
    if not positives.folds or not set().union(*positives.folds) <= set(pairs.image_ids.tolist()):
        return {}, {}
    found = [_recalls(projections, pairs, positives, fold) for fold in positives.folds]
    means, chance = zip(*found, strict=True)
    return _mean(means), _mean(chance)


def _recalls(
    projections: Projections, pairs: NamedPairs, positives: Positives, fold: frozenset[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the recalls among the images of one fold with their captions, and chance."""
    images = np.flatnonzero(np.isin(pairs.image_ids, list(fold)))
    texts = np.isin(pairs.caption_image, images)
    part = projections.of_chosen(images)
    owner = part.text_image.cpu().numpy()
    listed = ListedPositives.of(positives, pairs.image_ids[images], pairs.named_captions()[texts], owner)
    recalls, chance = {}, {}
    for direction in DIRECTIONS:
        places = listed.places(part, direction)
        values, random = values_by_query(places), chance_of(places)
        for name in RECALLS:
            label = f"1K {direction.upper()} {name}"
            recalls[label], chance[label] = 100.0 * float(values[name].mean()), random[name]
    return recalls, chance


def _mean(parts: tuple[dict[str, float], ...]) -> dict[str, float]:
    return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
