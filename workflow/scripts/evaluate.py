"""Evaluate a trained head or a baseline: exact ranks, metrics, retrieval examples and pictures."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from workflow.lib.batches import PairFiles
from workflow.lib.devices import choose_device
from workflow.lib.dual_encoder import DualEncoder, load_heads
from workflow.lib.embeddings import EmbeddingFiles, check_set, open_set
from workflow.lib.errors import run
from workflow.lib.evaluation import (
    CAPTION_RULES,
    Evaluation,
    captions_by_rule,
    evaluate,
    metrics_document,
    rank_arrays,
)
from workflow.lib.examples import retrieval_examples
from workflow.lib.figures import embedding_map, recall_at_k, similarity_histogram
from workflow.lib.files import save_figure, write_arrays, write_json
from workflow.lib.maps import pair_sample, pca_map, similarity_sample, tsne_map
from workflow.lib.splits import SplitIndex, select_images

logger = logging.getLogger(__name__)

EXTRA_SET = "val2017"


def main(argv: Sequence[str] | None = None) -> None:
    """Write metrics.json, ranks.npz, examples.json and four pictures."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = choose_device(arguments.device)
    model, facts = load_heads(arguments.model)
    images, texts, metadata, _ = open_set(EmbeddingFiles.of(arguments.data_dir, "train2017"))
    split = captions_by_rule(SplitIndex.load(arguments.split_dir / f"{arguments.split}.npz"), arguments.captions_rule)
    files = PairFiles(images, texts, split)
    main_set = evaluate(model, files, arguments.split, arguments.captions_rule, device)
    extra = _extra_sets(model, arguments.data_dir, arguments.captions_rule, device)
    output = arguments.output_dir
    write_json(output / "metrics.json", metrics_document(facts, main_set, extra))
    write_arrays(output / "ranks.npz", **rank_arrays(main_set))
    write_json(output / "examples.json", retrieval_examples(main_set, split, metadata))
    _draw(output, main_set, facts["experiment"])
    for name, evaluation in {arguments.split: main_set, **extra}.items():
        _log(name, evaluation)
    logger.info("written to %s", output)


def _extra_sets(model: DualEncoder, folder: Path, rule: str, device: torch.device) -> dict[str, Evaluation]:
    """Evaluate on `val2017_*` where the folder has it."""
    files = EmbeddingFiles.of(folder, EXTRA_SET)
    if not files.images.exists():
        return {}
    checked = check_set(files)
    everything = captions_by_rule(select_images(checked.index, checked.image_content >= 0), rule)
    return {EXTRA_SET: evaluate(model, PairFiles(checked.images, checked.texts, everything), EXTRA_SET, rule, device)}


def _draw(output: Path, evaluation: Evaluation, name: str) -> None:
    ranks, pairs = evaluation.ranks, pair_sample(evaluation.projections)
    save_figure(output / "recall_at_k.png", recall_at_k(ranks.i2t, ranks.t2i, name))
    save_figure(
        output / "similarity_histogram.png", similarity_histogram(*similarity_sample(evaluation.projections), name)
    )
    save_figure(output / "embedding_pca.png", embedding_map(*pca_map(*pairs), name, "PCA"))
    save_figure(output / "embedding_tsne.png", embedding_map(*tsne_map(*pairs), name, "t-SNE"))


def _log(name: str, evaluation: Evaluation) -> None:
    results = {"": evaluation.metrics["full"]}
    if evaluation.metrics["reranked"]:
        results[", re-ranked"] = evaluation.metrics["reranked"]["full"]
    for label, full in results.items():
        recalls = "  ".join(
            f"{direction} " + "/".join(f"{full[direction][metric]:.1f}" for metric in ("R@1", "R@5", "R@10"))
            for direction in ("i2t", "t2i")
        )
        logger.info("%s%s: RSUM %.1f  %s", name, label, full["RSUM"], recalls)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.evaluate", description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="best_model.pt of a head or a baseline")
    parser.add_argument("--data-dir", required=True, type=Path, help="folder with the train2017_* files")
    parser.add_argument("--split-dir", required=True, type=Path, help="folder with the split's index files")
    parser.add_argument("--split", default="test", choices=["test", "val"], help="split to evaluate on (test)")
    parser.add_argument("--captions-rule", default="all", choices=CAPTION_RULES, help="captions of an image that count")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for metrics and pictures")
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute (auto)"
    )
    return parser


if __name__ == "__main__":
    run(main)
