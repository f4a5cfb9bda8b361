"""Exact retrieval ranks of the matches, from which every metric is computed."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from frozenalign.evaluation.counting import Captions, Penalties, RankCounts, Ranking
from frozenalign.evaluation.metrics import Ranks
from frozenalign.evaluation.nearest import NearestOfBoth
from frozenalign.evaluation.shares import WHOLE, Share
from frozenalign.evaluation.tiles import ScoreTiles
from frozenalign.system.errors import UserError
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import SMALLEST_TILE, blocks, product, tile_size

FINITE_ROWS = 65536
CANDIDATE_QUERIES, CANDIDATE_GALLERY = 256, 16384
score_tiles = FittingSize("rows and columns of the scores", SMALLEST_TILE, "set `device: cpu`")


def retrieval_ranks(images: Tensor, texts: Tensor, caption_image: Tensor) -> Ranks:
    """Return the ranks of every match among images (N, D) and texts (M, D).

    Caption j belongs to image caption_image[j]; every image has a caption. Memory holds, beside the inputs, a few tiles
    and a few values of each caption; where memory runs out, tiles get smaller. NaN or infinite rows are a UserError.
    """
    return all_ranks(images, texts, caption_image, [None])[0]


def all_ranks(
    images: Tensor, texts: Tensor, caption_image: Tensor, penalties: Sequence[Penalties | None]
) -> list[Ranks]:
    """Return what `retrieval_ranks` returns, for the scores less each of the penalties; None: for the scores."""
    owner = caption_image.cpu().numpy()
    counts = rank_counts(images, texts, caption_image, penalties)
    return [Ranks(each.t2i, each.captions, owner) for each in counts]


@torch.no_grad()
def rank_counts(
    images: Tensor,
    texts: Tensor,
    caption_image: Tensor,
    penalties: Sequence[Penalties | None],
    share: Share = WHOLE,
) -> list[RankCounts]:
    """Return the counts of a share of the tiles of scores, as `all_ranks` takes them from all."""
    _refuse_what_is_not_finite(images, texts)
    given = images, texts, caption_image, penalties, share
    return score_tiles.run(_counts, tile_size(images.device), images.device, *given)


@torch.no_grad()
def rank_counts_and_nearest(
    images: Tensor,
    texts: Tensor,
    caption_image: Tensor,
    penalties: Sequence[Penalties | None],
    share: Share = WHOLE,
) -> tuple[list[RankCounts], dict[str, np.ndarray]]:
    """Return `rank_counts`, and how often each candidate is among the ten nearest of a share of the queries.

    These are `nearest_images` (N,) and `nearest_texts` (M,). One process computes every score once for all this; a part
    compares its images with all texts once more.
    """
    _refuse_what_is_not_finite(images, texts)
    given = images, texts, caption_image, penalties, share
    return score_tiles.run(_counts_and_nearest, tile_size(images.device), images.device, *given)


def _refuse_what_is_not_finite(images: Tensor, texts: Tensor) -> None:
    if not (all_finite(images) and all_finite(texts)):
        raise UserError("the projections hold NaN or infinite values: the head diverged; lower training.learning_rate")


def _counts_and_nearest(
    size: int,
    images: Tensor,
    texts: Tensor,
    caption_image: Tensor,
    penalties: Sequence[Penalties | None],
    share: Share,
) -> tuple[list[RankCounts], dict[str, np.ndarray]]:
    tiles = _tiles(size, images, texts, caption_image)
    nearest = NearestOfBoth(tiles, share)
    counts = _counted(tiles, caption_image, penalties, share, nearest.add)
    nearest.complete()
    return counts, nearest.occurrences()


def _counts(
    size: int,
    images: Tensor,
    texts: Tensor,
    caption_image: Tensor,
    penalties: Sequence[Penalties | None],
    share: Share,
) -> list[RankCounts]:
    return _counted(_tiles(size, images, texts, caption_image), caption_image, penalties, share)


def _tiles(size: int, images: Tensor, texts: Tensor, caption_image: Tensor) -> ScoreTiles:
    """Return tiles of `size` rows and columns, the captions of an image after each other."""
    return ScoreTiles(images, texts, torch.argsort(caption_image, stable=True), size)


def see_no_tile(rows: slice, columns: slice, scores: Tensor) -> None:
    """Do nothing with a tile of scores."""


def _counted(
    tiles: ScoreTiles,
    caption_image: Tensor,
    penalties: Sequence[Penalties | None],
    share: Share,
    see: Callable[[slice, slice, Tensor], None] = see_no_tile,
) -> list[RankCounts]:
    """Return the counts of a share of the tiles: each is computed once, and `see` is given it as well."""
    owner, images, size = caption_image[tiles.order], tiles.images, tiles.size
    captions_of = torch.bincount(owner, minlength=len(images))
    filled = torch.arange(int(captions_of.max()), device=owner.device) < captions_of[:, None]
    captions = Captions(tiles.order, owner, _positive_scores(tiles, owner), filled)
    rankings = [Ranking(captions, each) for each in penalties]
    left, above = images.new_empty(2, size, size)
    for rows, columns, scores in tiles.of(share):
        height, width = scores.shape
        for ranking in rankings:
            ranking.add(rows, columns, scores, left[:height, :width], above[:height, :width])
        see(rows, columns, scores)
    return [ranking.found(share, size) for ranking in rankings]


def all_finite(rows: Tensor) -> bool:
    """Return whether rows (N, D) hold neither NaN nor infinite values, checked a part at a time."""
    return all(bool(part.isfinite().all()) for part in rows.split(FINITE_ROWS))


def _positive_scores(tiles: ScoreTiles, owner: Tensor) -> Tensor:
    """Return each caption's score with its own image, (M,), from the same tiles as the scores of other images."""
    scores = torch.empty(len(owner), device=owner.device)
    for columns in blocks(len(owner), tiles.size):
        own, texts = owner[columns], tiles.text_block(columns)
        for row in torch.unique(own // tiles.size).tolist():
            rows = slice(row * tiles.size, min((row + 1) * tiles.size, len(tiles.images)))
            here = torch.nonzero(own // tiles.size == row).flatten()
            scores[columns][here] = tiles.product(rows, columns, texts)[own[here] - rows.start, here]
    return scores


@torch.no_grad()
def top_candidates(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return scores and indices, each (N, k), of the best gallery rows for queries (N, D), best first."""
    k = min(k, len(gallery))
    scores = queries.new_empty(len(queries), k)
    indices = torch.empty_like(scores, dtype=torch.long)
    for rows in blocks(len(queries), CANDIDATE_QUERIES):
        best = queries.new_empty(rows.stop - rows.start, 0)
        where = torch.empty_like(best, dtype=torch.long)
        for columns in blocks(len(gallery), CANDIDATE_GALLERY):
            here, place = product(queries[rows], gallery[columns].T).topk(min(k, columns.stop - columns.start), dim=1)
            best, chosen = torch.cat([best, here], 1).topk(min(k, best.shape[1] + here.shape[1]), dim=1)
            where = torch.cat([where, place + columns.start], 1).gather(1, chosen)
        scores[rows], indices[rows] = best, where
    return scores, indices
