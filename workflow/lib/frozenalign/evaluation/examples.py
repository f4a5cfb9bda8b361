"""Queries for the report, in plain values: a few with their best candidates, and those that rank worst."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.embeddings import Metadata
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.ranks import top_candidates
from frozenalign.evaluation.retrieval import Evaluation

QUERIES = 6
CANDIDATES = 5
WORST_QUERIES = 10


def retrieval_examples(evaluation: Evaluation, split: SplitIndex, metadata: Metadata, seed: int = 0) -> dict[str, Any]:
    """Return random queries of both directions with their top five; a seed draws the same queries for every model."""
    generator = np.random.default_rng(seed)
    projections, ranks, owner = evaluation.projections, evaluation.ranks, split.text_image
    describe = functools.partial(_described, split=split, metadata=metadata)
    # An image is described by its first caption.
    _, first_text = np.unique(owner, return_index=True)
    t2i = [
        {
            "query": describe(query),
            "rank": int(ranks.t2i[query]),
            "candidates": [
                describe(first_text[found]) | {"score": score, "correct": bool(owner[query] == found)}
                for found, score in best
            ],
        }
        for query, best in _queries(projections.texts, projections.images, generator)
    ]
    i2t = [
        {
            "query": describe(first_text[query]) | {"caption": None},
            "rank": int(ranks.i2t[query]),
            "candidates": [
                describe(found) | {"score": score, "correct": bool(owner[found] == query)} for found, score in best
            ],
        }
        for query, best in _queries(projections.images, projections.texts, generator)
    ]
    return {"format": 2, "image_files": _image_files(metadata), "t2i": t2i, "i2t": i2t}


def _queries(
    queries: Tensor, gallery: Tensor, generator: np.random.Generator
) -> Iterator[tuple[int, list[tuple[int, float]]]]:
    """Yield random queries, each with the numbers and scores of its best candidates."""
    chosen = np.sort(generator.choice(len(queries), min(QUERIES, len(queries)), replace=False))
    scores, found = top_candidates(queries[torch.from_numpy(chosen).to(queries.device)], gallery, CANDIDATES)
    for query, *best in zip(chosen, found.tolist(), scores.tolist(), strict=True):
        yield query, list(zip(*best, strict=True))


def _image_files(metadata: Metadata) -> dict[str, Any]:
    """Return the number of pictures in the metadata, how many of their keys are image ids, and the first key."""
    files = metadata.image_files
    ids = set(metadata.image_ids.tolist()) if files else set()
    return {"keys": len(files), "images": sum(key in ids for key in files), "first": next(iter(files), None)}


def worst_queries(evaluation: Evaluation, split: SplitIndex, metadata: Metadata) -> dict[str, Any]:
    """Return the ten captions whose image ranks lowest, the worst first, with the 1-based rank, before re-ranking."""
    ranks = evaluation.ranks.t2i
    queries = []
    for text in np.argsort(-ranks, kind="stable")[:WORST_QUERIES]:
        described = _described(text, split, metadata)
        queries.append({key: described[key] for key in ("caption", "image_id")} | {"rank": int(ranks[text]) + 1})
    return {"format": 1, "queries": queries}


def _described(text: int, split: SplitIndex, metadata: Metadata) -> dict[str, Any]:
    """Return the caption of a text of the split, and id and file of its image."""
    row = split.text_rows[text]
    image_id = str(metadata.image_ids[row])
    caption = metadata.captions[row] if metadata.captions else None
    return {"image_id": image_id, "image_file": metadata.image_files.get(image_id), "caption": caption}
