"""Retrieval on another data set, or with several positives of each query."""

import torch

from frozenalign.data.benchmarks.positives import Positives
from frozenalign.data.benchmarks.registry import positives_of
from frozenalign.evaluation.benchmarks.folds import fold_recalls
from frozenalign.evaluation.benchmarks.listed_positives import ListedPositives
from frozenalign.evaluation.benchmarks.pairs import NamedPairs, named_pairs
from frozenalign.evaluation.benchmarks.positive_metrics import chance_of, values_by_query
from frozenalign.evaluation.benchmarks.registry import AskedSet, register_evaluation_set
from frozenalign.evaluation.benchmarks.result import Measured, percentages
from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS, summarize
from frozenalign.evaluation.projections import Projections, project_files
from frozenalign.evaluation.uncertainty import ImageHits, recall_intervals
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError


@register_evaluation_set("retrieval")
def retrieval(asked: AskedSet, model: DualEncoder, device: torch.device) -> Measured:
    """Recalls of pairs of pictures and captions; where several positives are listed, R-Precision and mAP@R as well."""
    files, pairs = named_pairs(asked)
    projections = project_files(model, files, device)
    if asked.positives is None:
        return measured_by_pairs(projections, pairs)
    return measured_by_positives(projections, pairs, positives_of(asked.positives), asked.positives)


def _counts(pairs: NamedPairs) -> dict[str, int]:
    return {"images": len(pairs.image_ids), "captions": len(pairs.caption_image)}


def measured_by_pairs(projections: Projections, pairs: NamedPairs) -> Measured:
    """Measure as the board does: the captions of an image are its positives, and a caption has one."""
    ranks = projections.ranks()
    found = summarize(ranks)
    intervals = recall_intervals(ImageHits.of(ranks.i2t, ranks.t2i, ranks.caption_image))
    own = ListedPositives.of_pairs(pairs.caption_image)
    chance = {d: chance_of(own.unranked(d)) for d in DIRECTIONS}
    metrics, ends, random = {"RSUM": found["RSUM"]}, {"RSUM": intervals["RSUM"]}, {"RSUM": 0.0}
    for direction in DIRECTIONS:
        for name in RECALLS:
            label = _label(direction, name)
            metrics[label], ends[label] = found[direction][name], intervals[direction][name]
            random[label] = chance[direction][name]
    random["RSUM"] = sum(random.values())
    return Measured(_counts(pairs), metrics, random, ends, pairs.warnings)


def measured_by_positives(projections: Projections, pairs: NamedPairs, positives: Positives, source: str) -> Measured:
    """Measure by listed positives; source: what messages call them."""
    listed = ListedPositives.of(positives, pairs.image_ids, pairs.named_captions(), pairs.caption_image)
    if not (len(listed.captions) and len(listed.images)):
        raise UserError(
            f"none of the captions or none of the images that {source} lists is in {pairs.where}: the ids there have "
            "to be those of the positives"
        )
    metrics, chance, ends = {}, {}, {}
    for direction in DIRECTIONS:
        places = listed.places(projections, direction)
        means, intervals = percentages(values_by_query(places), places.owner)
        random = chance_of(places)
        for name in means:
            label = _label(direction, name)
            metrics[label], ends[label], chance[label] = means[name], intervals[name], random[name]
    recalls, random = fold_recalls(projections, pairs, positives)
    counts = _counts(pairs) | {"image_queries": len(listed.images), "caption_queries": len(listed.captions)}
    doubts = [*pairs.warnings, *listed.doubts(positives, source)]
    return Measured(counts, metrics | recalls, chance | random, ends, doubts)


def _label(direction: str, name: str) -> str:
    return f"{direction.upper()} {name}"
