"""Retrieval on a split: from a model and its rows to the content of metrics.json."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import PairFiles
from frozenalign.evaluation.counting import Penalties
from frozenalign.evaluation.hubness import HubnessCorrection
from frozenalign.evaluation.image_batches import ImageBatch
from frozenalign.evaluation.metrics import Ranks, mean_of_folds, summarize
from frozenalign.evaluation.projections import Projections, map_rows, project_files, see_nothing
from frozenalign.evaluation.ranks import rank_counts_and_nearest
from frozenalign.evaluation.reranking import placed, reranked_places, reranked_ranks
from frozenalign.evaluation.shares import WHOLE, Share
from frozenalign.evaluation.uncertainty import ImageHits, intervals_of_all
from frozenalign.models.dual_encoder import DualEncoder

FOLD_IMAGES = 1000


@dataclass(frozen=True)
class Evaluation:
    """The projections of a split, their ranks and metrics.

    second_ranks: of second rankings by key of metrics.json. occurrences: by direction, how often each candidate is
    among the ten nearest of a query.
    """

    projections: Projections
    ranks: Ranks
    metrics: dict[str, Any]
    second_ranks: dict[str, Ranks] = field(default_factory=dict)
    occurrences: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """What comparing a share of the queries with the candidates has found; it adds up over the shares.

    arrays: whole numbers by name. tiles, matches: of each ranking, as in `RankCounts`.
    """

    arrays: dict[str, np.ndarray]
    tiles: list[int]
    matches: list[str]


@dataclass(frozen=True)
class Retrieval:
    """A model on N images and M captions: all that takes time in proportion to them, not to their product.

    penalties: of the correction. tokens: of images and captions, None without a pair scorer.
    """

    model: DualEncoder
    correction: HubnessCorrection
    projections: Projections
    penalties: Penalties
    tokens: tuple[Tensor, Tensor] | None

    @classmethod
    def of(
        cls,
        model: DualEncoder,
        files: PairFiles,
        device: torch.device,
        correction: HubnessCorrection,
        see: Callable[[ImageBatch], None] = see_nothing,
    ) -> "Retrieval":
        """Project the rows of a split, in float32; `see` is given the rows as well."""
        projections = project_files(model, files, device, see)
        tokens = _tokens(model, files, device) if model.scorer is not None else None
        return cls(model, correction, projections, correction.penalties(projections), tokens)

    def counts(self, share: Share = WHOLE) -> Counts:
        """Compare a share of all images with captions; the time is in proportion to N M."""
        images, texts, owner = self.projections.images, self.projections.texts, self.projections.text_image
        rankings, nearest = rank_counts_and_nearest(images, texts, owner, [None, self.penalties], share)
        dual, corrected = rankings
        arrays = {
            "t2i": dual.t2i,
            "captions": dual.captions,
            "corrected_t2i": corrected.t2i,
            "corrected_captions": corrected.captions,
            **nearest,
        }
        if self.tokens is not None:
            k = self.model.head.rerank_k
            places = reranked_places(self.model, self.projections, *self.tokens, k, share)
            arrays |= {"reranked_t2i": places[0], "reranked_captions": places[1]}
        return Counts(arrays, [each.tiles for each in rankings], [each.matches for each in rankings])

    def block_ranks(self) -> list[list[Ranks]]:
        """Return the ranks in consecutive blocks of 1,000 images, and the corrected ones."""
        return [self._ranks_within(*block) for block in _blocks(len(self.projections.images))]

    def _ranks_within(self, start: int, stop: int) -> list[Ranks]:
        """Return the ranks of images start to stop - 1 and their texts among themselves, and the corrected ones."""
        texts = self.projections.texts_of(start, stop)
        own = Penalties(self.penalties.images[start:stop], self.penalties.texts[texts])
        return self.projections.of_images(start, stop).all_ranks([None, own])

    def bounds(self) -> dict[str, tuple[int, int]]:
        """Return length and bound of the numbers in the arrays of all shares' counts, by name."""
        images, captions = len(self.projections.images), len(self.projections.texts)
        bounds = {
            "t2i": (captions, images),
            "captions": (captions, captions),
            "corrected_t2i": (captions, images),
            "corrected_captions": (captions, captions),
            "nearest_images": (images, captions + 1),
            "nearest_texts": (captions, images + 1),
        }
        if self.tokens is not None:
            bounds |= {"reranked_t2i": (captions, images + 1), "reranked_captions": (captions, captions + 1)}
        return bounds


def evaluate(retrieval: Retrieval, counts: Counts, name: str, rule: str) -> Evaluation:
    """Return the metrics of the split `name`, whose captions the rule has chosen, from the counts of all shares."""
    projections, found = retrieval.projections, counts.arrays
    images, captions = len(projections.images), len(projections.texts)
    owner = projections.text_image.cpu().numpy()
    ranks = Ranks(found["t2i"], found["captions"], owner)
    second_ranks = {"hubness_corrected": Ranks(found["corrected_t2i"], found["corrected_captions"], owner)}
    if retrieval.tokens is not None:
        k = retrieval.model.head.rerank_k
        second_ranks["reranked"] = placed(ranks, found["reranked_t2i"], found["reranked_captions"], k)
    blocks = retrieval.block_ranks()
    intervals, *second_intervals = _intervals([ranks, *second_ranks.values()])
    of_second = dict(zip(second_ranks, second_intervals, strict=True))
    metrics: dict[str, Any] = {
        "protocol": {"split": name, "images": images, "captions": captions, "captions_rule": rule},
        **_summaries(ranks, [plain for plain, _ in blocks], intervals),
        "reranked": None,
        "hubness_corrected": {
            "correction": retrieval.correction.described(),
            **_summaries(
                second_ranks["hubness_corrected"],
                [corrected for _, corrected in blocks],
                of_second["hubness_corrected"],
            ),
        },
    }
    if retrieval.tokens is not None:
        reranked = _reranked_blocks(retrieval, *retrieval.tokens)
        summaries = _summaries(second_ranks["reranked"], reranked, of_second["reranked"])
        metrics["reranked"] = {"rerank_k": k, **summaries}
    nearest = {"t2i": found["nearest_images"], "i2t": found["nearest_texts"]}
    return Evaluation(projections, ranks, metrics, second_ranks, nearest)


def _intervals(rankings: Sequence[Ranks]) -> list[dict[str, Any]]:
    """Return the intervals of several rankings of the same images, which are drawn once for all."""
    return intervals_of_all([ImageHits.of(ranks.i2t, ranks.t2i, ranks.caption_image) for ranks in rankings])


def _summaries(ranks: Ranks, blocks: list[Ranks], intervals: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of all images and of the 1,000-image blocks, and the intervals of the former."""
    return {
        "full": summarize(ranks),
        "1k": mean_of_folds([summarize(block) for block in blocks]) if blocks else None,
        "intervals": {"full": intervals},
    }


def _blocks(images: int) -> list[tuple[int, int]]:
    """Return start and stop of consecutive blocks of 1,000 images; a smaller last block is left out."""
    return [(start, start + FOLD_IMAGES) for start in range(0, images - FOLD_IMAGES + 1, FOLD_IMAGES)]


def _tokens(model: DualEncoder, files: PairFiles, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the tokens (n, tokens, width) of the images and (m, tokens, width) of the texts of a split."""
    images = map_rows(
        lambda rows: model.image_tower.with_tokens(model.image_statistics(rows))[1],
        files.images,
        files.split.image_rows,
        device,
    )
    texts = map_rows(
        lambda rows: model.text_tower.with_tokens(model.text_statistics(rows))[1],
        files.texts,
        files.split.text_rows,
        device,
    )
    return images, texts


def _reranked_blocks(retrieval: Retrieval, image_tokens: Tensor, text_tokens: Tensor) -> list[Ranks]:
    """Return the ranks after re-ranking in the 1,000-image blocks."""
    model, projections = retrieval.model, retrieval.projections
    owner, ranks = projections.text_image, []
    for start, stop in _blocks(len(projections.images)):
        block = projections.of_images(start, stop)
        tokens = image_tokens[start:stop], text_tokens[(owner >= start) & (owner < stop)]
        ranks.append(reranked_ranks(model, block, *tokens, block.ranks(), model.head.rerank_k))
    return ranks


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
