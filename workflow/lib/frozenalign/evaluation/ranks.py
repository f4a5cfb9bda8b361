"""Exact ranks: where the matches of a retrieval stand, which every metric is computed from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from frozenalign.system.errors import UserError
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import SMALLEST_TILE, blocks, product, tile_size


@dataclass(frozen=True)
class Ranks:
    """Where the matches of M captions and N images stand.

    t2i: (M,) rank of each caption's image among the N images.
    captions: (M,) rank of each caption for its own image, among the captions of other images and better own ones.
    caption_image: (M,) index of each caption's image.
    """

    t2i: np.ndarray
    captions: np.ndarray
    caption_image: np.ndarray

    @property
    def i2t(self) -> np.ndarray:
        """Return the best rank over each image's own captions, (N,)."""
        best = np.full(int(self.caption_image.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(best, self.caption_image, self.captions)
        return best


PROGRESS_FROM_SCORES = 5e9
FINITE_ROWS = 65536
CANDIDATE_QUERIES, CANDIDATE_GALLERY = 256, 16384
score_tiles = FittingSize("rows and columns of the scores", SMALLEST_TILE, "set `device: cpu`")


@torch.no_grad()
def retrieval_ranks(images: Tensor, texts: Tensor, caption_image: Tensor) -> Ranks:
    """Return the ranks of every match among images (N, D) and texts (M, D).

    Caption j belongs to image caption_image[j]; every image has a caption. Beside the inputs, memory holds a few tiles
    and a few values of each caption; the tiles are smaller where there is too little. NaN or infinite rows are a
    UserError: no comparison with them means anything.
    """
    if not (all_finite(images) and all_finite(texts)):
        raise UserError("the projections hold NaN or infinite values: the head diverged; lower training.learning_rate")
    return score_tiles.run(_ranks, tile_size(images.device), images.device, images, texts, caption_image)


def _ranks(size: int, images: Tensor, texts: Tensor, caption_image: Tensor) -> Ranks:
    """Return the ranks from tiles of `size` rows and columns."""
    order = torch.argsort(caption_image, stable=True)
    owner = caption_image[order]
    tiles = _Tiles(images, texts, order, size)
    positives = _positive_scores(tiles, owner)
    own = _OwnCaptions(owner, len(images))
    thresholds = own.by_image(positives, fill=torch.inf)
    image_counts = torch.zeros_like(thresholds)
    text_counts = torch.zeros(len(texts), device=texts.device)
    above = images.new_empty(tiles.size, tiles.size)
    for rows, columns, scores in tiles.all():
        flags = above[: scores.shape[0], : scores.shape[1]]
        text_counts[columns] += torch.ge(scores, positives[None, columns], out=flags).sum(0)
        for k in range(own.most):
            image_counts[rows, k] += torch.ge(scores, thresholds[rows, k, None], out=flags).sum(1)
    rivals = own.by_caption(image_counts) - own.at_least(positives)
    captions = rivals + own.place(positives)
    inverse = torch.argsort(order)
    return Ranks(
        t2i=(text_counts - 1)[inverse].long().cpu().numpy(),
        captions=captions[inverse].long().cpu().numpy(),
        caption_image=caption_image.cpu().numpy(),
    )


def all_finite(rows: Tensor) -> bool:
    """Say whether rows (N, D) hold neither NaN nor infinite values, looking at some of them at a time."""
    return all(bool(part.isfinite().all()) for part in rows.split(FINITE_ROWS))


class _Tiles:
    """Products of fixed-shape tiles of images (N, D) and texts (M, D) in an order; edges are padded with zero rows."""

    def __init__(self, images: Tensor, texts: Tensor, order: Tensor, size: int) -> None:
        self.images, self.texts, self.order, self.size = images, texts, order, size

    def text_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield (columns, texts) of every block of columns, the texts padded."""
        for columns in blocks(len(self.order), self.size):
            yield columns, _padded(self.texts[self.order[columns]], self.size)

    def product(self, rows: slice, columns: slice, texts: Tensor) -> Tensor:
        """Return the scores of a tile without its padding."""
        scores = product(_padded(self.images[rows], self.size), texts.T)
        return scores[: rows.stop - rows.start, : columns.stop - columns.start]

    def all(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield (image rows, text columns, scores) of every tile."""
        shown = len(self.images) * len(self.order) >= PROGRESS_FROM_SCORES
        with tqdm(total=len(self.order), desc="ranks", unit="text", disable=None if shown else True) as bar:
            for columns, texts in self.text_blocks():
                for rows in blocks(len(self.images), self.size):
                    yield rows, columns, self.product(rows, columns, texts)
                bar.update(columns.stop - columns.start)


def _padded(part: Tensor, size: int) -> Tensor:
    if len(part) == size:
        return part
    return torch.cat([part, part.new_zeros(size - len(part), part.shape[1])])


def _positive_scores(tiles: _Tiles, owner: Tensor) -> Tensor:
    """Return each caption's score with its own image, (M,), from the tiles in which the rivals are scored."""
    scores = torch.empty(len(owner), device=owner.device)
    for columns, texts in tiles.text_blocks():
        own = owner[columns]
        for row in torch.unique(own // tiles.size).tolist():
            rows = slice(row * tiles.size, min((row + 1) * tiles.size, len(tiles.images)))
            here = torch.nonzero(own // tiles.size == row).flatten()
            scores[columns][here] = tiles.product(rows, columns, texts)[own[here] - rows.start, here]
    return scores


class _OwnCaptions:
    """Moves values between captions sorted by image, (M,), and a table of one row an image, (N, most captions)."""

    def __init__(self, owner: Tensor, images: int) -> None:
        counts = torch.bincount(owner, minlength=images)
        first = torch.cumsum(counts, 0) - counts
        self.owner = owner
        self.slot = torch.arange(len(owner), device=owner.device) - first[owner]
        self.most = int(counts.max())
        self.images = images

    def by_image(self, values: Tensor, fill: float) -> Tensor:
        """Spread values (M,) over a table (N, most), empty places filled."""
        table = torch.full((self.images, self.most), fill, device=values.device)
        table[self.owner, self.slot] = values
        return table

    def by_caption(self, table: Tensor) -> Tensor:
        """Collect values (M,) from a table (N, most)."""
        return table[self.owner, self.slot]

    def at_least(self, positives: Tensor) -> Tensor:
        """Return how many own captions, itself included, score at least as high as each caption, (M,)."""
        table = self.by_image(positives, fill=-torch.inf)
        return (table[self.owner] >= positives[:, None]).sum(1)

    def place(self, positives: Tensor) -> Tensor:
        """Return each caption's 0-based place among the own captions of its image, equal scores in file order, (M,)."""
        table = self.by_image(positives, fill=-torch.inf)
        places = torch.argsort(torch.argsort(table, dim=1, descending=True, stable=True), dim=1)
        return self.by_caption(places)


@torch.no_grad()
def top_candidates(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return scores and indices, each (N, k), of the best gallery rows for queries (N, D), best first."""
    k = min(k, len(gallery))
    scores, indices = [], []
    for rows in blocks(len(queries), CANDIDATE_QUERIES):
        best = queries.new_empty(rows.stop - rows.start, 0)
        where = torch.empty_like(best, dtype=torch.long)
        for columns in blocks(len(gallery), CANDIDATE_GALLERY):
            here, place = (queries[rows] @ gallery[columns].T).topk(min(k, columns.stop - columns.start), dim=1)
            best, chosen = torch.cat([best, here], 1).topk(min(k, best.shape[1] + here.shape[1]), dim=1)
            where = torch.cat([where, place + columns.start], 1).gather(1, chosen)
        scores.append(best)
        indices.append(where)
    return torch.cat(scores), torch.cat(indices)
