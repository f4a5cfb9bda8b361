"""All scores of images with texts, in tiles of one shape: a score is rounded alike however often it is computed."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from frozenalign.evaluation.shares import Share
from frozenalign.system.products import blocks, product

PROGRESS_FROM_SCORES = 5e9


@dataclass(frozen=True)
class ScoreTiles:
    """Products of fixed-shape tiles of images (N, D) and texts (M, D) in an order; edges are padded with zero rows."""

    images: Tensor
    texts: Tensor
    order: Tensor
    size: int

    @property
    def row_blocks(self) -> list[slice]:
        """Return the blocks of images."""
        return list(blocks(len(self.images), self.size))

    @property
    def column_blocks(self) -> list[slice]:
        """Return the blocks of texts in their order."""
        return list(blocks(len(self.order), self.size))

    def numbers(self, share: Share) -> slice:
        """Return the numbers of the tiles of a share, counted column by column."""
        return share.of(len(self.row_blocks) * len(self.column_blocks))

    def text_block(self, columns: slice) -> Tensor:
        """Return the texts of a block of columns, padded."""
        return padded(self.texts[self.order[columns]], self.size)

    def product(self, rows: slice, columns: slice, texts: Tensor) -> Tensor:
        """Return the scores of a tile without its padding."""
        scores = product(padded(self.images[rows], self.size), texts.T)
        return scores[: rows.stop - rows.start, : columns.stop - columns.start]

    def of(self, share: Share) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield (image rows, text columns, scores) of every tile of a share, column by column."""
        row_blocks, column_blocks, own = self.row_blocks, self.column_blocks, self.numbers(share)
        shown = (own.stop - own.start) * self.size**2 >= PROGRESS_FROM_SCORES
        loaded, texts = -1, self.texts
        for tile in tqdm(range(own.start, own.stop), desc="ranks", unit="tile", disable=None if shown else True):
            column, row = divmod(tile, len(row_blocks))
            if column != loaded:
                loaded, texts = column, self.text_block(column_blocks[column])
            yield row_blocks[row], column_blocks[column], self.product(row_blocks[row], column_blocks[column], texts)


def padded(part: Tensor, size: int) -> Tensor:
    """Return the rows of a part, (size, D), with zeros below where there are fewer."""
    return part if len(part) == size else functional.pad(part, (0, 0, 0, size - len(part)))
