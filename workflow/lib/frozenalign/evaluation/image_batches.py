"""The rows of a split, read once and in order of the images: a batch of texts with the images that they show.

A test split is a few percent of its files. Its rows are gathered into batches that a processor multiplies at its full
rate, and no row between them is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import PairFiles

ROWS_AT_ONCE = 1024
BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class ImageBatch:
    """Texts (b, D_text), the images that they show and that no batch before had, and all images that they show.

    new: the slice of the new images; those that no text shows are among them. texts: (b,) indices of the texts,
    ascending. image_rows: (i, D_image), which ends with the rows of `new`. owner: (b,) the row of each text's image in
    `image_rows`.
    """

    new: slice
    texts: np.ndarray
    image_rows: Tensor
    text_rows: Tensor
    owner: Tensor

    @property
    def new_rows(self) -> Tensor:
        """Return the rows of the new images (k, D_image)."""
        return self.image_rows[len(self.image_rows) - (self.new.stop - self.new.start) :]


def rows_at_once(row_bytes: int) -> int:
    """Return how many rows of this size a batch has at the most."""
    return max(1, min(ROWS_AT_ONCE, BATCH_BYTES // row_bytes))


def image_batches(files: PairFiles) -> Iterator[ImageBatch]:
    """Yield all texts of a split in batches, each row of either modality once."""
    split, images = files.split, files.images
    order = np.argsort(split.text_image, kind="stable")
    size = rows_at_once(max(files.texts.row_bytes, images.row_bytes))
    held = torch.empty(0, images.width, dtype=images.dtype)
    read = 0
    for start in range(0, len(order), size):
        texts = np.sort(order[start : start + size])
        owner = split.text_image[texts]
        last = len(split.image_rows) if start + size >= len(order) else int(owner.max()) + 1
        rows = torch.cat([held, images.take(split.image_rows[read:last])])
        first = read - len(held)
        text_rows = files.texts.take(split.text_rows[texts])
        yield ImageBatch(slice(read, last), texts, rows, text_rows, torch.from_numpy(owner - first))
        # The captions of its last image may go on in the next batch.
        held, read = rows[-1:].clone(), last
