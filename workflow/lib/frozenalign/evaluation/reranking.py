"""Two-stage retrieval: the dual towers propose candidates, the pair scorer reorders them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from frozenalign.evaluation.metrics import Ranks
from frozenalign.evaluation.projections import Projections
from frozenalign.evaluation.ranks import top_candidates
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import blocks

QUERIES_AT_ONCE = 64
reranked_queries = FittingSize("queries to re-rank", 1, "lower model.rerank_k")


@torch.no_grad()
def reranked_ranks(
    model: DualEncoder, projections: Projections, image_tokens: Tensor, text_tokens: Tensor, dual: Ranks, rerank_k: int
) -> Ranks:
    """Return the ranks after the scorer has ordered each query's best `rerank_k` candidates of the dual retrieval.

    image_tokens (n, tokens, width), text_tokens (m, tokens, width). A match that is not among the candidates keeps its
    dual rank; candidates are found without knowing the match, and a tie counts against it.
    """

    def rerank(queries: int) -> Ranks:
        """Return the ranks, the scorer seeing the candidates of `queries` queries at a time."""
        images, texts = model.scorer.image_parts(image_tokens), model.scorer.text_parts(text_tokens)
        text_image = projections.text_image
        t2i, captions = torch.from_numpy(dual.t2i.copy()), torch.from_numpy(dual.captions.copy())
        for query, candidates, similarity in _candidates(projections.texts, projections.images, rerank_k, queries):
            scores = model.scorer(images.rows(candidates), texts.rows(query), similarity)
            _place(t2i, query, candidates == text_image[query], scores)
        for query, candidates, similarity in _candidates(projections.images, projections.texts, rerank_k, queries):
            scores = model.scorer(images.rows(query), texts.rows(candidates), similarity)
            _place(captions, candidates, text_image[candidates] == query, scores)
        return Ranks(t2i.numpy(), captions.numpy(), dual.caption_image)

    return reranked_queries.run(rerank, QUERIES_AT_ONCE, image_tokens.device)


def _candidates(queries: Tensor, gallery: Tensor, k: int, at_once: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield indices of queries and of their candidates, and their similarities, each (Q, k)."""
    for rows in blocks(len(queries), at_once):
        similarity, candidates = top_candidates(queries[rows], gallery, k)
        query = torch.arange(rows.start, rows.stop, device=candidates.device)[:, None].expand_as(candidates)
        yield query, candidates, similarity


def _place(ranks: Tensor, entries: Tensor, own: Tensor, scores: Tensor) -> None:
    """Overwrite the ranks of the matches among the candidates.

    Of each candidate, (Q, k): entries, its index into `ranks` if it is a match; own, whether it is; scores.
    """
    # A match whose dual rank lies beyond the candidates is among them only by a tie, which must not help it.
    placed = own & (ranks.to(own.device)[entries] < own.shape[1])
    query, slot = torch.nonzero(placed, as_tuple=True)
    score = scores[query, slot][:, None]
    rivals_above = (~own[query] & (scores[query] >= score)).sum(1)
    earlier = entries[query] < entries[query, slot][:, None]
    own_above = (own[query] & ((scores[query] > score) | ((scores[query] == score) & earlier))).sum(1)
    ranks[entries[query, slot].cpu()] = (rivals_above + own_above).cpu()
