"""Two-stage retrieval: the dual towers propose candidates, the pair scorer reorders them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from frozenalign.evaluation.metrics import Ranks
from frozenalign.evaluation.projections import Projections
from frozenalign.evaluation.ranks import top_candidates
from frozenalign.evaluation.shares import WHOLE, Share
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import blocks

QUERIES_AT_ONCE = 64
reranked_queries = FittingSize("queries to re-rank", 1, "lower model.rerank_k")


def reranked_ranks(
    model: DualEncoder, projections: Projections, image_tokens: Tensor, text_tokens: Tensor, dual: Ranks, rerank_k: int
) -> Ranks:
    """Return the ranks after the scorer has ordered each query's best `rerank_k` candidates of the dual retrieval.

    image_tokens (n, tokens, width), text_tokens (m, tokens, width). A match that is not among the candidates keeps its
    dual rank; candidates are found without knowing the match, and a tie counts against it.
    """
    return placed(dual, *reranked_places(model, projections, image_tokens, text_tokens, rerank_k), rerank_k)


@torch.no_grad()
def reranked_places(
    model: DualEncoder,
    projections: Projections,
    image_tokens: Tensor,
    text_tokens: Tensor,
    rerank_k: int,
    share: Share = WHOLE,
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the scorer places the matches of a share of the queries among their `rerank_k` candidates.

    Of each caption, (m,) and from 1: the place of its image, and its own place for that image; 0 where the match is not
    among the candidates or the query is of another share.
    """

    def rerank(queries: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the places, the scorer seeing the candidates of `queries` queries at a time."""
        images, texts = model.scorer.image_parts(image_tokens), model.scorer.text_parts(text_tokens)
        text_image = projections.text_image
        t2i, captions = (torch.zeros(len(text_image), dtype=torch.long) for _ in range(2))
        to_images = _candidates(projections.texts, projections.images, rerank_k, queries, share)
        for query, candidates, similarity in to_images:
            scores = model.scorer(images.rows(candidates), texts.rows(query), similarity)
            _place(t2i, query, candidates == text_image[query], scores)
        to_texts = _candidates(projections.images, projections.texts, rerank_k, queries, share)
        for query, candidates, similarity in to_texts:
            scores = model.scorer(images.rows(query), texts.rows(candidates), similarity)
            _place(captions, candidates, text_image[candidates] == query, scores)
        return t2i.numpy(), captions.numpy()

    return reranked_queries.run(rerank, QUERIES_AT_ONCE, image_tokens.device)


def placed(dual: Ranks, t2i: np.ndarray, captions: np.ndarray, rerank_k: int) -> Ranks:
    """Return the dual ranks with those of the matches among the candidates replaced by their places (m,), from 1.

    A match whose dual rank lies beyond the candidates is among them only by a tie, which must not help it.
    """
    return Ranks(
        np.where((t2i > 0) & (dual.t2i < rerank_k), t2i - 1, dual.t2i),
        np.where((captions > 0) & (dual.captions < rerank_k), captions - 1, dual.captions),
        dual.caption_image,
    )


def _candidates(
    queries: Tensor, gallery: Tensor, k: int, at_once: int, share: Share
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield indices of queries of a share and of their candidates, and their similarities, each (Q, k)."""
    own = share.of(len(queries), QUERIES_AT_ONCE)
    for rows in blocks(own.stop - own.start, at_once):
        start, stop = own.start + rows.start, own.start + rows.stop
        similarity, candidates = top_candidates(queries[start:stop], gallery, k)
        query = torch.arange(start, stop, device=candidates.device)[:, None].expand_as(candidates)
        yield query, candidates, similarity


def _place(places: Tensor, entries: Tensor, own: Tensor, scores: Tensor) -> None:
    """Write the places, from 1, of the matches among the candidates.

    Of each candidate, (Q, k): entries, its index into `places` if it is a match; own, whether it is; scores.
    """
    query, slot = torch.nonzero(own, as_tuple=True)
    score = scores[query, slot][:, None]
    rivals_above = (~own[query] & (scores[query] >= score)).sum(1)
    earlier = entries[query] < entries[query, slot][:, None]
    own_above = (own[query] & ((scores[query] > score) | ((scores[query] == score) & earlier))).sum(1)
    places[entries[query, slot].cpu()] = (rivals_above + own_above + 1).cpu()
