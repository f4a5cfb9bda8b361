"""The evaluation protocol: from a model and a split to the content of metrics.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from frozenalign.data.pairs import PairFiles
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.hubness import CorrectedProjections, HubnessCorrection
from frozenalign.evaluation.metrics import Ranks, mean_of_folds, summarize
from frozenalign.evaluation.projections import Projections, map_rows, project_files
from frozenalign.evaluation.reranking import reranked_ranks
from frozenalign.evaluation.uncertainty import ImageHits, recall_intervals
from frozenalign.models.dual_encoder import DualEncoder

FOLD_IMAGES = 1000
CAPTION_RULES = ("all", "first5")


@dataclass(frozen=True)
class Evaluation:
    """The projections of a split, their ranks and metrics, and the ranks of second rankings by key of metrics.json."""

    projections: Projections
    ranks: Ranks
    metrics: dict[str, Any]
    second_ranks: dict[str, Ranks] = field(default_factory=dict)


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


def evaluate(
    model: DualEncoder, files: PairFiles, name: str, rule: str, device: torch.device, correction: HubnessCorrection
) -> Evaluation:
    """Evaluate a model on the split `name`, whose captions the rule has chosen; scores are float32."""
    projections = project_files(model, files, device)
    images, captions = len(projections.images), len(projections.texts)
    ranks, corrected = projections.ranks(), correction.corrected(projections)
    second_ranks = {"hubness_corrected": corrected.ranks()}
    metrics: dict[str, Any] = {
        "protocol": {"split": name, "images": images, "captions": captions, "captions_rule": rule},
        **_summaries(ranks, _block_ranks(projections, images)),
        "reranked": None,
        "hubness_corrected": {
            "correction": correction.described(),
            **_summaries(second_ranks["hubness_corrected"], _block_ranks(corrected, images)),
        },
    }
    if model.scorer is not None:
        second_ranks["reranked"], metrics["reranked"] = _reranked(model, files, projections, ranks, device)
    return Evaluation(projections, ranks, metrics, second_ranks)


def _summaries(ranks: Ranks, blocks: list[Ranks]) -> dict[str, Any]:
    """Return the metrics of all images and of the 1,000-image blocks, and the intervals of the former."""
    return {
        "full": summarize(ranks),
        "1k": mean_of_folds([summarize(block) for block in blocks]) if blocks else None,
        "intervals": {"full": recall_intervals(ImageHits.of(ranks.i2t, ranks.t2i, ranks.caption_image))},
    }


def _blocks(images: int) -> list[tuple[int, int]]:
    """Return start and stop of consecutive blocks of 1,000 images; a smaller last block is left out."""
    return [(start, start + FOLD_IMAGES) for start in range(0, images - FOLD_IMAGES + 1, FOLD_IMAGES)]


def _block_ranks(projections: Projections | CorrectedProjections, images: int) -> list[Ranks]:
    return [projections.of_images(*block).ranks() for block in _blocks(images)]


def _reranked(
    model: DualEncoder, files: PairFiles, projections: Projections, dual: Ranks, device: torch.device
) -> tuple[Ranks, dict[str, Any]]:
    """Return the ranks after re-ranking, and the metrics of all images and of the 1,000-image blocks."""
    image_tokens = map_rows(
        lambda rows: model.image_tower.with_tokens(model.image_statistics(rows))[1],
        files.images,
        files.split.image_rows,
        device,
    )
    text_tokens = map_rows(
        lambda rows: model.text_tower.with_tokens(model.text_statistics(rows))[1],
        files.texts,
        files.split.text_rows,
        device,
    )
    k, owner = model.head.rerank_k, projections.text_image
    ranks = reranked_ranks(model, projections, image_tokens, text_tokens, dual, k)
    blocks = []
    for start, stop in _blocks(len(projections.images)):
        block = projections.of_images(start, stop)
        tokens = image_tokens[start:stop], text_tokens[(owner >= start) & (owner < stop)]
        blocks.append(reranked_ranks(model, block, *tokens, block.ranks(), k))
    return ranks, {"rerank_k": k, **_summaries(ranks, blocks)}


def metrics_document(
    facts: Mapping[str, Any],
    main: Evaluation,
    diagnostics: Mapping[str, Any],
    extra: Mapping[str, Evaluation],
    *,
    rows: str,
    inputs: Mapping[str, str],
    models: Sequence[str],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Return the content of metrics.json: which model, how it was chosen, and the metrics of each set.

    diagnostics: of the main set, plain numbers by name. rows: SHA-256 of the row numbers of the split. inputs: SHA-256
    of each file that was read, by name. models: SHA-256 of the model's file, or of those of an ensemble's members.
    """
    return {
        "format": 2,
        **{name: facts[name] for name in ("dataset", "experiment", "kind", "seed", "selected")},
        "models": list(models),
        "warnings": list(warnings),
        **main.metrics,
        "protocol": main.metrics["protocol"] | {"rows": rows},
        "diagnostics": dict(diagnostics),
        "inputs": dict(inputs),
        "extra": {name: evaluation.metrics for name, evaluation in extra.items()} or None,
    }


def rank_arrays(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Return the content of ranks.npz: 0-based ranks by query, of every ranking."""
    ranks = evaluation.ranks
    arrays = {"t2i": ranks.t2i, "i2t": ranks.i2t, "caption_image": ranks.caption_image}
    for name, second in evaluation.second_ranks.items():
        arrays |= {f"{name}_t2i": second.t2i, f"{name}_i2t": second.i2t}
    return arrays
