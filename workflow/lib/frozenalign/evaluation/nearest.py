"""How often each candidate is among the nearest of the queries, from the tiles of scores that ranks are counted in."""

import functools

import numpy as np
import torch
from torch import Tensor

from frozenalign.evaluation.shares import WHOLE, Share
from frozenalign.evaluation.tiles import ScoreTiles

NEIGHBOURS = 10
# The best of a few neighbours in a tile are found among the best of so many groups: most groups are passed over.
GROUPS_OF = 8


class Nearest:
    """The k nearest candidates of each query, (queries, k) in any order, whose scores come tile by tile."""

    def __init__(self, queries: int, candidates: int, k: int, device: torch.device) -> None:
        self.k = min(k, candidates)
        self.scores = torch.full((queries, self.k), -torch.inf, device=device)
        self.candidates = torch.zeros((queries, self.k), dtype=torch.long, device=device)

    def add(self, queries: slice, candidates: slice, scores: Tensor) -> None:
        """Take in a tile of finite scores (queries, candidates)."""
        asked = columns_with_highest(scores, self.k)
        best = torch.cat([self.scores[queries], scores.gather(1, asked)], 1)
        place = torch.cat([self.candidates[queries], asked + candidates.start], 1)
        self.scores[queries], chosen = best.topk(self.k, dim=1, sorted=False)
        self.candidates[queries] = place.gather(1, chosen)


def columns_with_highest(scores: Tensor, k: int) -> Tensor:
    """Return columns, some for each row of scores (n, m), among which are those of its k highest scores."""
    columns = scores.shape[1]
    width = columns // GROUPS_OF
    if columns % GROUPS_OF or width <= k:
        return torch.arange(columns, device=scores.device).expand(scores.shape)
    # Group j holds the columns j, j + width, j + 2 width and so on.
    highest = functools.reduce(torch.maximum, scores.split(width, dim=1))
    groups = highest.contiguous().topk(k, dim=1, sorted=False).indices
    return (groups[:, None] + width * torch.arange(GROUPS_OF, device=groups.device)[:, None]).flatten(1)


class NearestOfBoth:
    """The nearest images of texts and the nearest texts of images, of a share of the queries.

    Tiles come column by column. A part has the texts whose first tile is in its share of all tiles.
    """

    def __init__(self, tiles: ScoreTiles, share: Share, k: int = NEIGHBOURS) -> None:
        images, texts, device = len(tiles.images), len(tiles.order), tiles.images.device
        self.tiles, self.share, rows = tiles, share, len(tiles.row_blocks)
        self.own, size = tiles.numbers(share), tiles.size
        self.columns = range(-(-self.own.start // rows), -(-self.own.stop // rows))
        self.asking_texts = slice(self.columns.start * size, self.columns.stop * size)
        self.asking_images = share.of(images, size)
        self.of_texts, self.of_images = Nearest(texts, images, k, device), Nearest(images, texts, k, device)

    def add(self, rows: slice, columns: slice, scores: Tensor) -> None:
        """Take in a tile of the share."""
        if columns.start >= self.asking_texts.start:
            self.of_texts.add(columns, rows, scores.T)
        if self.share == WHOLE:
            self.of_images.add(rows, columns, scores)

    def complete(self) -> None:
        """Compute what a part lacks after its last tile: the rest of a column, and its images with all texts."""
        tiles = self.tiles
        row_blocks, column_blocks = tiles.row_blocks, tiles.column_blocks
        for number in range(self.own.stop, self.columns.stop * len(row_blocks)):
            column, row = divmod(number, len(row_blocks))
            scores = tiles.product(row_blocks[row], column_blocks[column], tiles.text_block(column_blocks[column]))
            self.of_texts.add(column_blocks[column], row_blocks[row], scores.T)
        if self.share == WHOLE:
            return
        for rows in row_blocks[self.share.of(len(row_blocks))]:
            for columns in column_blocks:
                self.of_images.add(rows, columns, tiles.product(rows, columns, tiles.text_block(columns)))

    def occurrences(self) -> dict[str, np.ndarray]:
        """Return how often images (N,) and texts (M,) are among the nearest of the queries."""
        images, texts = len(self.tiles.images), len(self.tiles.order)
        of_texts = self.of_texts.candidates[self.asking_texts]
        of_images = self.tiles.order[self.of_images.candidates[self.asking_images]]
        return {"nearest_images": _times(of_texts, images), "nearest_texts": _times(of_images, texts)}


def _times(found: Tensor, candidates: int) -> np.ndarray:
    return torch.bincount(found.flatten().cpu(), minlength=candidates).numpy()
