"""Exact retrieval ranks of the matches, from which every metric is computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from frozenalign.evaluation.counting import Captions, Penalties, RankCounts, Ranking
from frozenalign.evaluation.metrics import Ranks
from frozenalign.evaluation.shares import WHOLE, Share
from frozenalign.system.errors import UserError
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import SMALLEST_TILE, blocks, product, tile_size

PROGRESS_FROM_SCORES = 5e9
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
    """Return what `retrieval_ranks` returns for the scores without each of the penalties; None: by the scores alone."""
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
    if not (all_finite(images) and all_finite(texts)):
        raise UserError("the projections hold NaN or infinite values: the head diverged; lower training.learning_rate")
    given = images, texts, caption_image, penalties, share
    return score_tiles.run(_counts, tile_size(images.device), images.device, *given)


def _counts(
    size: int,
    images: Tensor,
    texts: Tensor,
    caption_image: Tensor,
    penalties: Sequence[Penalties | None],
    share: Share,
) -> list[RankCounts]:
    """Return the counts of a share of the tiles of `size` rows and columns: each is computed once."""
    order = torch.argsort(caption_image, stable=True)
    owner = caption_image[order]
    tiles = _Tiles(images, texts, order, size)
    captions_of = torch.bincount(owner, minlength=len(images))
    filled = torch.arange(int(captions_of.max()), device=owner.device) < captions_of[:, None]
    captions = Captions(order, owner, _positive_scores(tiles, owner), filled)
    rankings = [Ranking(captions, each) for each in penalties]
    left, above = images.new_empty(2, size, size)
    for rows, columns, scores in tiles.of(share):
        height, width = scores.shape
        for ranking in rankings:
            ranking.add(rows, columns, scores, left[:height, :width], above[:height, :width])
    return [ranking.found(share, size) for ranking in rankings]


def all_finite(rows: Tensor) -> bool:
    """Return whether rows (N, D) hold neither NaN nor infinite values, checked a part at a time."""
    return all(bool(part.isfinite().all()) for part in rows.split(FINITE_ROWS))


@dataclass(frozen=True)
class _Tiles:
    """Products of fixed-shape tiles of images (N, D) and texts (M, D) in an order; edges are padded with zero rows."""

    images: Tensor
    texts: Tensor
    order: Tensor
    size: int

    def text_block(self, columns: slice) -> Tensor:
        """Return the texts of a block of columns, padded."""
        return _padded(self.texts[self.order[columns]], self.size)

    def product(self, rows: slice, columns: slice, texts: Tensor) -> Tensor:
        """Return the scores of a tile without its padding."""
        scores = product(_padded(self.images[rows], self.size), texts.T)
        return scores[: rows.stop - rows.start, : columns.stop - columns.start]

    def of(self, share: Share) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield (image rows, text columns, scores) of every tile of a share, column by column."""
        row_blocks = list(blocks(len(self.images), self.size))
        column_blocks = list(blocks(len(self.order), self.size))
        own = share.of(len(row_blocks) * len(column_blocks))
        shown = (own.stop - own.start) * self.size**2 >= PROGRESS_FROM_SCORES
        loaded, texts = -1, self.texts
        for tile in tqdm(range(own.start, own.stop), desc="ranks", unit="tile", disable=None if shown else True):
            column, row = divmod(tile, len(row_blocks))
            if column != loaded:
                loaded, texts = column, self.text_block(column_blocks[column])
            yield row_blocks[row], column_blocks[column], self.product(row_blocks[row], column_blocks[column], texts)


def _padded(part: Tensor, size: int) -> Tensor:
    return part if len(part) == size else functional.pad(part, (0, 0, 0, size - len(part)))


def _positive_scores(tiles: _Tiles, owner: Tensor) -> Tensor:
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


def occurrences(queries: Tensor, gallery: Tensor, k: int = 10, share: Share = WHOLE) -> np.ndarray:
    """Return how often each gallery row (M, D) is among the best k of a share of the queries (N, D), int64 (M,)."""
    _, found = top_candidates(queries[share.of(len(queries), CANDIDATE_QUERIES)], gallery, k)
    return torch.bincount(found.flatten().cpu(), minlength=len(gallery)).numpy()
