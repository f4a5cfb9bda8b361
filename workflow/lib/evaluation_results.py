"""The folder evaluation_results of a run: a model evaluated, and everything that is written of it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workflow.lib.batches import PairFiles
from workflow.lib.diagnostics import diagnostics
from workflow.lib.dual_encoder import DualEncoder
from workflow.lib.embeddings import EmbeddingFiles, Metadata, check_set, open_set
from workflow.lib.evaluation import Evaluation, captions_by_rule, evaluate, metrics_document, rank_arrays
from workflow.lib.examples import retrieval_examples, worst_queries
from workflow.lib.figures import embedding_map, recall_at_k, similarity_histogram
from workflow.lib.files import save_figure, write_arrays, write_json
from workflow.lib.hubness import ChosenCorrection, choose_correction, project_sample
from workflow.lib.maps import pair_sample, pca_map, similarity_sample, tsne_map
from workflow.lib.metrics import DIRECTIONS, RECALLS, SECOND_RANKINGS
from workflow.lib.projections import project_files
from workflow.lib.splits import SplitIndex, select_images

logger = logging.getLogger(__name__)

EXTRA_SET = "val2017"


@dataclass(frozen=True)
class Protocol:
    """What a model is evaluated on: the folders of embeddings and of their split, the split, and its captions' rule."""

    data_dir: Path
    split_dir: Path
    split: str
    captions_rule: str

    def pair_files(self, split: str) -> PairFiles:
        """Return the embedding files with a split's index."""
        files = EmbeddingFiles.of(self.data_dir, "train2017")
        return PairFiles.open(files.images, files.texts, self.split_dir / f"{split}.npz")


def write_evaluation(
    output: Path, model: DualEncoder, facts: Mapping[str, Any], protocol: Protocol, device: torch.device
) -> None:
    """Evaluate a model and write metrics.json, ranks.npz, examples.json, worst_queries.json and four pictures."""
    images, texts, metadata, _ = open_set(EmbeddingFiles.of(protocol.data_dir, "train2017"))
    rule = protocol.captions_rule
    split = captions_by_rule(SplitIndex.load(protocol.split_dir / f"{protocol.split}.npz"), rule)
    correction = choose_correction(
        project_sample(model, protocol.pair_files("train"), device),
        project_files(model, protocol.pair_files("val"), device),
    )
    files = PairFiles(images, texts, split)
    main_set = evaluate(model, files, protocol.split, rule, device, correction)
    extra = _extra_sets(model, protocol, device, correction)
    diagnosed = diagnostics(main_set, files, _captions(split, metadata))
    write_json(output / "metrics.json", metrics_document(facts, main_set, diagnosed, extra))
    write_arrays(output / "ranks.npz", **rank_arrays(main_set))
    write_json(output / "examples.json", retrieval_examples(main_set, split, metadata))
    write_json(output / "worst_queries.json", worst_queries(main_set, split, metadata))
    _draw(output, main_set, facts["experiment"])
    for name, evaluation in {protocol.split: main_set, **extra}.items():
        _log(name, evaluation.metrics)
    logger.info("written to %s", output)


def _captions(split: SplitIndex, metadata: Metadata) -> list[str] | None:
    """Return the text of each caption of a split, or None where the metadata has none."""
    return metadata.captions and [metadata.captions[row] for row in split.text_rows]


def _extra_sets(
    model: DualEncoder, protocol: Protocol, device: torch.device, correction: ChosenCorrection
) -> dict[str, Evaluation]:
    """Evaluate on `val2017_*` where the folder has it."""
    files, rule = EmbeddingFiles.of(protocol.data_dir, EXTRA_SET), protocol.captions_rule
    if not files.images.exists():
        return {}
    checked = check_set(files)
    everything = captions_by_rule(select_images(checked.index, checked.image_content >= 0), rule)
    pairs = PairFiles(checked.images, checked.texts, everything)
    return {EXTRA_SET: evaluate(model, pairs, EXTRA_SET, rule, device, correction)}


def _draw(output: Path, evaluation: Evaluation, name: str) -> None:
    ranks, pairs = evaluation.ranks, pair_sample(evaluation.projections)
    save_figure(output / "recall_at_k.png", recall_at_k(ranks.i2t, ranks.t2i, name))
    save_figure(
        output / "similarity_histogram.png", similarity_histogram(*similarity_sample(evaluation.projections), name)
    )
    save_figure(output / "embedding_pca.png", embedding_map(*pca_map(*pairs), name, "PCA"))
    save_figure(output / "embedding_tsne.png", embedding_map(*tsne_map(*pairs), name, "t-SNE"))


def _log(name: str, metrics: Mapping[str, Any]) -> None:
    second = {title: metrics[key] for key, title in SECOND_RANKINGS.items() if metrics[key]}
    for label, found in {name: metrics, **{f"{name}, {title}": found for title, found in second.items()}}.items():
        full = found["full"]
        recalls = "  ".join(
            f"{direction} " + "/".join(f"{full[direction][metric]:.1f}" for metric in RECALLS)
            for direction in DIRECTIONS
        )
        logger.info("%s: RSUM %.1f  %s", label, full["RSUM"], recalls)
