"""Exact retrieval ranks, streamed: the full similarity matrix never exists.

Similarities are float32 products of unit vectors. Every product is a tile of one shape, so that a score has the same
bits whether it stands for the match or for a rival; a rival that ties with the match counts as ranked above it.
Ranks are 0-based.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from workflow.lib.errors import UserError
from workflow.lib.ranks import Ranks

TILE_IMAGES = 256
TILE_TEXTS = 1024
PROGRESS_FROM_TILES = 20_000


def retrieval_ranks(images: Tensor, texts: Tensor, caption_image: Tensor) -> Ranks:
    """Return the ranks of every match among images (N, D) and texts (M, D).

    Caption j belongs to image caption_image[j]; every image has a caption. Beside the inputs, memory holds one copy of
    the texts and a tile of scores. NaN or infinite rows are a UserError: no comparison with them means anything.
    """
    if not (images.isfinite().all() and texts.isfinite().all()):
        raise UserError("the projections hold NaN or infinite values: the head diverged; lower training.learning_rate")
    order = torch.argsort(caption_image, stable=True)
    owner = caption_image[order]
    tiles = _Tiles(images, texts[order])
    positives = _positive_scores(tiles, owner)
    own = _OwnCaptions(owner, len(images))
    thresholds = own.by_image(positives, fill=torch.inf)
    image_counts = torch.zeros_like(thresholds)
    text_counts = torch.zeros(len(texts), device=texts.device)
    above = torch.empty(TILE_IMAGES, TILE_TEXTS, device=texts.device)
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


class _Tiles:
    """Products of fixed-shape tiles of images (N, D) and texts (M, D); ragged edges are padded with zero rows."""

    def __init__(self, images: Tensor, texts: Tensor) -> None:
        self.images, self.texts = images, texts

    def product(self, row: int, column: int) -> Tensor:
        """Return the scores of the tile that starts at image `row` and text `column`, without its padding."""
        a, b = _padded(self.images, row, TILE_IMAGES), _padded(self.texts, column, TILE_TEXTS)
        return (a @ b.T)[: len(self.images) - row, : len(self.texts) - column]

    def all(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield (image rows, text rows, scores) of every tile."""
        total = -(-len(self.images) // TILE_IMAGES) * -(-len(self.texts) // TILE_TEXTS)
        with tqdm(
            total=total, desc="ranks", unit="tile", disable=None if total >= PROGRESS_FROM_TILES else True
        ) as bar:
            for row in range(0, len(self.images), TILE_IMAGES):
                for column in range(0, len(self.texts), TILE_TEXTS):
                    scores = self.product(row, column)
                    yield slice(row, row + scores.shape[0]), slice(column, column + scores.shape[1]), scores
                    bar.update()


def _padded(matrix: Tensor, start: int, size: int) -> Tensor:
    part = matrix[start : start + size]
    if len(part) == size:
        return part
    return torch.cat([part, part.new_zeros(size - len(part), part.shape[1])])


def _positive_scores(tiles: _Tiles, owner: Tensor) -> Tensor:
    """Return each caption's score with its own image, (M,), from the tiles in which the rivals are scored."""
    scores = torch.empty(len(owner), device=owner.device)
    rows = owner // TILE_IMAGES * TILE_IMAGES
    columns = torch.arange(len(owner), device=owner.device) // TILE_TEXTS * TILE_TEXTS
    for row, column in torch.unique(torch.stack([rows, columns]), dim=1).T.tolist():
        which = torch.nonzero((rows == row) & (columns == column)).flatten()
        scores[which] = tiles.product(row, column)[owner[which] - row, which - column]
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


def top_candidates(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return scores and indices, each (N, k), of the best gallery rows for queries (N, D), best first."""
    k = min(k, len(gallery))
    scores, indices = [], []
    for start in range(0, len(queries), TILE_IMAGES):
        best = queries.new_empty(len(queries[start : start + TILE_IMAGES]), 0)
        where = torch.empty_like(best, dtype=torch.long)
        for column in range(0, len(gallery), 16 * TILE_TEXTS):
            tile = queries[start : start + TILE_IMAGES] @ gallery[column : column + 16 * TILE_TEXTS].T
            here, place = tile.topk(min(k, tile.shape[1]), dim=1)
            best, chosen = torch.cat([best, here], 1).topk(min(k, best.shape[1] + here.shape[1]), dim=1)
            where = torch.cat([where, place + column], 1).gather(1, chosen)
        scores.append(best)
        indices.append(where)
    return torch.cat(scores), torch.cat(indices)
