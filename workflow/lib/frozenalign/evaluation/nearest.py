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
    """The nearest images of texts and the nearest texts of images."""

    def __init__(self, tiles: ScoreTiles, k: int = NEIGHBOURS) -> None:
        images, texts, device = len(tiles.images), len(tiles.order), tiles.images.device
        self.tiles = tiles
        self.of_texts, self.of_images = Nearest(texts, images, k, device), Nearest(images, texts, k, device)

    def add(self, rows: slice, columns: slice, scores: Tensor) -> None:
        """Take in a tile of the scores of images and texts."""
        self.of_texts.add(columns, rows, scores.T)
        self.of_images.add(rows, columns, scores)

    def add_share(self, share: Share) -> None:
        """Compute the tiles of the queries of a share: those of its texts, then those of its images."""
        tiles = self.tiles
        row_blocks, column_blocks = tiles.row_blocks, tiles.column_blocks
        for columns in column_blocks[share.of(len(column_blocks))]:
            texts = tiles.text_block(columns)
            for rows in row_blocks:
                self.of_texts.add(columns, rows, tiles.product(rows, columns, texts).T)
        for rows in row_blocks[share.of(len(row_blocks))]:
            for columns in column_blocks:
                self.of_images.add(rows, columns, tiles.product(rows, columns, tiles.text_block(columns)))

    def occurrences(self, share: Share = WHOLE) -> dict[str, np.ndarray]:
        """Return how often images (N,) and texts (M,) are among the nearest of the queries of a share."""
        tiles, size = self.tiles, self.tiles.size
        images = self.of_texts.candidates[share.of(len(tiles.order), size)]
        texts = tiles.order[self.of_images.candidates[share.of(len(tiles.images), size)]]
        return {"nearest_images": _times(images, len(tiles.images)), "nearest_texts": _times(texts, len(tiles.order))}


def _times(found: Tensor, candidates: int) -> np.ndarray:
    return torch.bincount(found.flatten().cpu(), minlength=candidates).numpy()
