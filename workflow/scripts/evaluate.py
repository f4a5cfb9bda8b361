"""Evaluate a trained head or a baseline: exact ranks, metrics, retrieval examples and pictures."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from workflow.lib.batches import PairFiles
from workflow.lib.devices import choose_device
from workflow.lib.dual_encoder import load_heads
from workflow.lib.embeddings import EmbeddingFiles, check_set, open_set
from workflow.lib.errors import run
from workflow.lib.evaluation import CAPTION_RULES, captions_by_rule, evaluate, metrics_document
from workflow.lib.examples import retrieval_examples
from workflow.lib.figures import embedding_map, recall_at_k, similarity_histogram
from workflow.lib.files import save_figure, write_arrays, write_json
from workflow.lib.maps import pca_map, tsne_map
from workflow.lib.pictures import sampled_pairs, sampled_similarities
from workflow.lib.splits import SplitIndex, select_images

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write metrics.json, ranks.npz, examples.json and four pictures."""
