"""The evaluation protocol: a model and a split in, the content of metrics.json out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workflow.lib.batches import PairFiles
from workflow.lib.dual_encoder import DualEncoder
from workflow.lib.metrics import mean_of_folds, summarize
from workflow.lib.projections import Projections, map_rows, project_files
from workflow.lib.ranks import Ranks
from workflow.lib.reranking import reranked_ranks
from workflow.lib.splits import SplitIndex
from workflow.lib.uncertainty import ImageHits, recall_intervals

FOLD_IMAGES = 1000
CAPTION_RULES = ("all", "first5")


@dataclass(frozen=True)
class Tokens:
    """What a pair scorer sees of a split: images (n, tokens, width), texts (m, tokens, width)."""

    images: Tensor
    texts: Tensor


@dataclass(frozen=True)
class Evaluation:
    """The projections of a split, their ranks, every metric, and the ranks after re-ranking where a head has it."""

    projections: Projections
    ranks: Ranks
    metrics: dict[str, Any]
    reranked: Ranks | None = None


def captions_by_rule(split: SplitIndex, rule: str) -> SplitIndex:
    """Return the split with the captions that the rule keeps: all, or each image's first five in file order."""
    if rule == "all":
        return split
    order = np.argsort(split.text_image, kind="stable")
    captions = np.bincount(split.text_image, minlength=len(split.image_rows))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(captions) - captions, captions)
    kept = place < 5
    return replace(split, text_rows=split.text_rows[kept], text_image=split.text_image[kept])


def evaluate(model: DualEncoder, files: PairFiles, name: str, rule: str, device: torch.device) -> Evaluation:
    """Evaluate a model on the split `name`, whose captions the rule has chosen; scores are float32."""
    model.to(device)
    projections = project_files(model, files, device)
    ranks = projections.ranks()
    metrics: dict[str, Any] = {
        "protocol": {
            "split": name,
            "images": len(projections.images),
            "captions": len(projections.texts),
            "captions_rule": rule,
        },
        "full": summarize(ranks),
        "1k": _folds([block.ranks() for block in _blocks(projections)]),
        "intervals": {"full": _intervals(ranks)},
        "reranked": None,
    }
    reranked = None
    if model.scorer is not None:
        reranked, metrics["reranked"] = _reranked(model, files, projections, ranks, device)
    return Evaluation(projections, ranks, metrics, reranked)


def _intervals(ranks: Ranks) -> dict[str, Any]:
    return recall_intervals(ImageHits.of(ranks.i2t, ranks.t2i, ranks.caption_image))


def _blocks(projections: Projections) -> list[Projections]:
    """Return the consecutive disjoint blocks of 1,000 images; a last, smaller block is left out."""
    starts = range(0, len(projections.images) // FOLD_IMAGES * FOLD_IMAGES, FOLD_IMAGES)
    return [projections.of_images(start, start + FOLD_IMAGES) for start in starts]


def _folds(ranks: list[Ranks]) -> dict[str, Any] | None:
    return mean_of_folds([summarize(fold) for fold in ranks]) if ranks else None


def _reranked(
    model: DualEncoder, files: PairFiles, projections: Projections, dual: Ranks, device: torch.device
) -> tuple[Ranks, dict[str, Any]]:
    """Return the ranks after re-ranking, and their metrics, of all images at once and of the 1,000-image blocks."""
    tokens = Tokens(
        map_rows(
            lambda rows: model.image_tower.with_tokens(model.image_statistics(rows))[1],
            files.images,
            files.split.image_rows,
            device,
        ),
        map_rows(
            lambda rows: model.text_tower.with_tokens(model.text_statistics(rows))[1],
            files.texts,
            files.split.text_rows,
            device,
        ),
    )
    k = model.head.rerank_k
    ranks = reranked_ranks(model, projections, tokens.images, tokens.texts, dual, k)
    folds = []
    for number, block in enumerate(_blocks(projections)):
        start = number * FOLD_IMAGES
        texts = (projections.text_image >= start) & (projections.text_image < start + FOLD_IMAGES)
        images = tokens.images[start : start + FOLD_IMAGES]
        folds.append(reranked_ranks(model, block, images, tokens.texts[texts], block.ranks(), k))
    return ranks, {
        "rerank_k": k,
        "full": summarize(ranks),
        "1k": _folds(folds),
        "intervals": {"full": _intervals(ranks)},
    }


def metrics_document(facts: Mapping[str, Any], main: Evaluation, extra: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Return the content of metrics.json: who was evaluated, how it was chosen, and the metrics of each set."""
    return {
        "format": 1,
        **{name: facts[name] for name in ("dataset", "experiment", "kind", "seed", "selected")},
        **main.metrics,
        "extra": {name: evaluation.metrics for name, evaluation in extra.items()} or None,
    }


def rank_arrays(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Return the content of ranks.npz: 0-based ranks by query, also of the re-ranked retrieval where there is one."""
    ranks, reranked = evaluation.ranks, evaluation.reranked
    arrays = {"t2i": ranks.t2i, "i2t": ranks.i2t, "caption_image": ranks.caption_image}
    return arrays if reranked is None else arrays | {"reranked_t2i": reranked.t2i, "reranked_i2t": reranked.i2t}
