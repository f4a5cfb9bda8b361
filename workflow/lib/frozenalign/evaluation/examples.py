"""Queries for the report, in plain values: a few with their best candidates, and those that went worst."""

from typing import Any

import numpy as np
import torch

from frozenalign.data.embeddings import Metadata
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.protocol import Evaluation
from frozenalign.evaluation.ranks import top_candidates

QUERIES = 6
CANDIDATES = 5
WORST_QUERIES = 10


def retrieval_examples(evaluation: Evaluation, split: SplitIndex, metadata: Metadata, seed: int = 0) -> dict[str, Any]:
    """Return random queries of both directions with their top five; a seed draws the same queries for every model."""
    generator = np.random.default_rng(seed)
    catalogue = _Catalogue(split, metadata)
    texts, images = evaluation.projections.texts, evaluation.projections.images
    text_image = split.text_image
    captions = np.sort(generator.choice(len(texts), min(QUERIES, len(texts)), replace=False))
    pictures = np.sort(generator.choice(len(images), min(QUERIES, len(images)), replace=False))
    t2i_scores, t2i_found = _best(texts, images, captions)
    i2t_scores, i2t_found = _best(images, texts, pictures)
    return {
        "format": 2,
        "image_files": _image_files(metadata),
        "t2i": [
            {
                "query": catalogue.text(query),
                "rank": int(evaluation.ranks.t2i[query]),
                "candidates": [
                    catalogue.image(image) | {"score": float(score), "correct": bool(image == text_image[query])}
                    for image, score in zip(found, scores, strict=True)
                ],
            }
            for query, found, scores in zip(captions, t2i_found, t2i_scores, strict=True)
        ],
        "i2t": [
            {
                "query": catalogue.image(query) | {"caption": None},
                "rank": int(evaluation.ranks.i2t[query]),
                "candidates": [
                    catalogue.text(text) | {"score": float(score), "correct": bool(text_image[text] == query)}
                    for text, score in zip(found, scores, strict=True)
                ],
            }
            for query, found, scores in zip(pictures, i2t_found, i2t_scores, strict=True)
        ],
    }


def _image_files(metadata: Metadata) -> dict[str, Any]:
    """Return how many pictures the metadata name, how many of these keys are image ids, and the first key."""
    files = metadata.image_files
    ids = set(metadata.image_ids.tolist()) if files else set()
    return {"keys": len(files), "images": sum(key in ids for key in files), "first": next(iter(files), None)}


def worst_queries(evaluation: Evaluation, split: SplitIndex, metadata: Metadata) -> dict[str, Any]:
    """Return the ten captions whose image ranks lowest, the worst first, with the 1-based rank, before re-ranking."""
    catalogue = _Catalogue(split, metadata)
    ranks = evaluation.ranks.t2i
    worst = np.argsort(-ranks, kind="stable")[:WORST_QUERIES]
    described = [(catalogue.text(query), int(ranks[query]) + 1) for query in worst]
    queries = [{"caption": text["caption"], "image_id": text["image_id"], "rank": rank} for text, rank in described]
    return {"format": 1, "queries": queries}


def _best(queries: torch.Tensor, gallery: torch.Tensor, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, indices = top_candidates(queries[torch.from_numpy(chosen).to(queries.device)], gallery, CANDIDATES)
    return scores.cpu().numpy(), indices.cpu().numpy()


class _Catalogue:
    """Names the images and texts of a split by what the metadata says of them."""

    def __init__(self, split: SplitIndex, metadata: Metadata) -> None:
        self.split, self.metadata = split, metadata
        _, self.first_text = np.unique(split.text_image, return_index=True)

    def text(self, text: int) -> dict[str, Any]:
        """Describe a text of the split and the image it belongs to."""
        row = self.split.text_rows[text]
        image_id = str(self.metadata.image_ids[row])
        caption = self.metadata.captions[row] if self.metadata.captions else None
        return {"image_id": image_id, "image_file": self.metadata.image_files.get(image_id), "caption": caption}

    def image(self, image: int) -> dict[str, Any]:
        """Describe an image of the split by its first caption."""
        return self.text(int(self.first_text[image]))
