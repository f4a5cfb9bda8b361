"""Exact retrieval ranks of the matches, from which every metric is computed."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from frozenalign.evaluation.metrics import Ranks
from frozenalign.system.errors import UserError
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import SMALLEST_TILE, blocks, product, tile_size

PROGRESS_FROM_SCORES = 5e9
FINITE_ROWS = 65536
CANDIDATE_QUERIES, CANDIDATE_GALLERY = 256, 16384
score_tiles = FittingSize("rows and columns of the scores", SMALLEST_TILE, "set `device: cpu`")


@torch.no_grad()
def retrieval_ranks(images: Tensor, texts: Tensor, caption_image: Tensor) -> Ranks:
    """Return the ranks of every match among images (N, D) and texts (M, D).

    Caption j belongs to image caption_image[j]; every image has a caption. Memory holds, beside the inputs, a few tiles
    and a few values of each caption; where memory runs out, tiles get smaller. NaN or infinite rows are a UserError.
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
    # One row an image, (N, most captions), filled from the left with the scores of its own captions.
    captions_of = torch.bincount(owner, minlength=len(images))
    filled = torch.arange(int(captions_of.max()), device=owner.device) < captions_of[:, None]
    own_scores = torch.full(filled.shape, -torch.inf, device=owner.device)
    own_scores[filled] = positives
    thresholds = own_scores.masked_fill(~filled, torch.inf)
    image_counts = torch.zeros_like(thresholds)
    text_counts = torch.zeros(len(texts), device=texts.device)
    above = images.new_empty(size, size)
    for rows, columns, scores in tiles.all():
        flags = above[: scores.shape[0], : scores.shape[1]]
        text_counts[columns] += torch.ge(scores, positives[None, columns], out=flags).sum(0)
        for k in range(filled.shape[1]):
            image_counts[rows, k] += torch.ge(scores, thresholds[rows, k, None], out=flags).sum(1)
    own_above = (own_scores[owner] >= positives[:, None]).sum(1)
    # Own captions with equal scores take places in file order.
    places = torch.argsort(torch.argsort(own_scores, dim=1, descending=True, stable=True), dim=1)
    captions = image_counts[filled] - own_above + places[filled]
    inverse = torch.argsort(order)
    return Ranks(
        t2i=(text_counts - 1)[inverse].long().cpu().numpy(),
        captions=captions[inverse].long().cpu().numpy(),
        caption_image=caption_image.cpu().numpy(),
    )


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
    return part if len(part) == size else functional.pad(part, (0, 0, 0, size - len(part)))


def _positive_scores(tiles: _Tiles, owner: Tensor) -> Tensor:
    """Return each caption's score with its own image, (M,), from the same tiles as the scores of other images."""
    scores = torch.empty(len(owner), device=owner.device)
    for columns, texts in tiles.text_blocks():
        own = owner[columns]
        for row in torch.unique(own // tiles.size).tolist():
            rows = slice(row * tiles.size, min((row + 1) * tiles.size, len(tiles.images)))
            here = torch.nonzero(own // tiles.size == row).flatten()
            scores[columns][here] = tiles.product(rows, columns, texts)[own[here] - rows.start, here]
    return scores


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
