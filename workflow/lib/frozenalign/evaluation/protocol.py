"""The evaluation protocol: a model and a split in, the content of metrics.json out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import PairFiles
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.hubness import ChosenCorrection, CorrectedProjections
from frozenalign.evaluation.metrics import mean_of_folds, summarize
from frozenalign.evaluation.projections import Projections, map_rows, project_files
from frozenalign.evaluation.ranks import Ranks
from frozenalign.evaluation.reranking import reranked_ranks
from frozenalign.evaluation.uncertainty import ImageHits, recall_intervals
from frozenalign.models.dual_encoder import DualEncoder

FOLD_IMAGES = 1000
CAPTION_RULES = ("all", "first5")


@dataclass(frozen=True)
class Tokens:
    """What a pair scorer sees of a split: images (n, tokens, width), texts (m, tokens, width)."""

    images: Tensor
    texts: Tensor


@dataclass(frozen=True)
class Evaluation:
    """The projections of a split, their ranks, every metric, and the ranks of second rankings by metrics.json key."""

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
    model: DualEncoder, files: PairFiles, name: str, rule: str, device: torch.device, correction: ChosenCorrection
) -> Evaluation:
    """Evaluate a model on the split `name`, whose captions the rule has chosen; scores are float32."""
    projections = project_files(model, files, device)
    images, ranks = len(projections.images), projections.ranks()
    corrected = correction.correction.corrected(projections)
    second_ranks = {"hubness_corrected": corrected.ranks()}
    metrics: dict[str, Any] = {
        "protocol": {
            "split": name,
            "images": images,
            "captions": len(projections.texts),
            "captions_rule": rule,
        },
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
    """Return the metrics of all images at once and of the 1,000-image blocks, and the intervals of the former."""
    return {
        "full": summarize(ranks),
        "1k": mean_of_folds([summarize(block) for block in blocks]) if blocks else None,
        "intervals": {"full": recall_intervals(ImageHits.of(ranks.i2t, ranks.t2i, ranks.caption_image))},
    }


def _blocks(images: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of consecutive disjoint blocks of 1,000 images; a last, smaller block is left out."""
    for start in range(0, images // FOLD_IMAGES * FOLD_IMAGES, FOLD_IMAGES):
        yield start, start + FOLD_IMAGES


def _block_ranks(projections: Projections | CorrectedProjections, images: int) -> list[Ranks]:
    return [projections.of_images(*block).ranks() for block in _blocks(images)]


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
    blocks = []
    for start, stop in _blocks(len(projections.images)):
        block = projections.of_images(start, stop)
        texts = tokens.texts[(projections.text_image >= start) & (projections.text_image < stop)]
        blocks.append(reranked_ranks(model, block, tokens.images[start:stop], texts, block.ranks(), k))
    return ranks, {"rerank_k": k, **_summaries(ranks, blocks)}


@dataclass(frozen=True)
class Circumstances:
    """What numbers hang on besides the model: the rows of the split, the files, and sentences that belong beside them.

    rows: SHA-256 of the row numbers of the split. inputs: SHA-256 of each file that was read, by its name. models: of
    the files of the model, or of an ensemble's members.
    """

    rows: str
    inputs: dict[str, str]
    models: list[str]
    warnings: list[str]


def metrics_document(
    facts: Mapping[str, Any],
    main: Evaluation,
    diagnostics: Mapping[str, Any],
    extra: Mapping[str, Evaluation],
    circumstances: Circumstances,
) -> dict[str, Any]:
    """Return the content of metrics.json: who was evaluated, how it was chosen, and the metrics of each set.

    diagnostics: of the main set, plain numbers by name.
    """
    return {
        "format": 2,
        **{name: facts[name] for name in ("dataset", "experiment", "kind", "seed", "selected")},
        "models": circumstances.models,
        "warnings": circumstances.warnings,
        **main.metrics,
        "protocol": main.metrics["protocol"] | {"rows": circumstances.rows},
        "diagnostics": dict(diagnostics),
        "inputs": circumstances.inputs,
        "extra": {name: evaluation.metrics for name, evaluation in extra.items()} or None,
    }


def rank_arrays(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Return the content of ranks.npz: 0-based ranks by query, also of every second ranking."""
    ranks = evaluation.ranks
    arrays = {"t2i": ranks.t2i, "i2t": ranks.i2t, "caption_image": ranks.caption_image}
    for name, second in evaluation.second_ranks.items():
        arrays |= {f"{name}_t2i": second.t2i, f"{name}_i2t": second.i2t}
    return arrays
