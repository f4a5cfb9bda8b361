"""Rows of one image that differ: by rounding, because an encoder batched them differently, or really."""

import logging
from dataclasses import replace

import numpy as np
from torch.nn import functional

from frozenalign.data.pair_index import PairIndex
from frozenalign.data.rows import Rows
from frozenalign.system.errors import UserError, quoted

logger = logging.getLogger(__name__)
# Rounding to 16 bits leaves a higher cosine between rows of one image.
SAME_COSINE = 0.999
# Embeddings with a large common mean have such a cosine whatever they show: rows of one image must also be nearer to
# each other than this share of the mean squared distance of all images from their mean.
SAME_SPREAD = 0.25
SPREAD_IMAGES = 1000


def with_further_rows(images: Rows, digests: np.ndarray, index: PairIndex, row_image: np.ndarray) -> PairIndex:
    """Return the index with all rows of the images whose rows differ by rounding; really different rows are refused.

    digests: (rows,) of each row. row_image: (rows,) index of the image that each row belongs to, -1 of none.
    """
    first = index.image_rows[row_image]
    uneven = np.unique(row_image[(digests != digests[first]) & (row_image >= 0)])
    if not len(uneven):
        return index
    rows = np.flatnonzero(np.isin(row_image, uneven))
    logger.warning(
        "%s: the rows of %d of %d images differ by rounding (lowest cosine %.6f): each is taken as one image, the mean "
        "of its rows",
        images.where,
        len(uneven),
        len(index.image_ids),
        _lowest_cosine(images, index, row_image, rows),
    )
    further = rows[rows != first[rows]]
    return replace(index, further_rows=further, further_image=row_image[further])


def _lowest_cosine(images: Rows, index: PairIndex, row_image: np.ndarray, rows: np.ndarray) -> float:
    """Return the lowest cosine between the rows and the first row of their image; rows that are too far are refused.

    rows: ascending, all of the images whose rows differ.
    """
    cosines, distances = (np.empty(len(rows), dtype=np.float32) for _ in range(2))
    for where, chunk in images.batches(rows):
        own = images.gather(index.image_rows[row_image[rows[where]]]).float()
        cosines[where] = functional.cosine_similarity(chunk.float(), own).numpy()
        distances[where] = (chunk.float() - own).square().sum(1).numpy()
    other = np.flatnonzero((cosines <= SAME_COSINE) | (distances > SAME_SPREAD * _spread(images, index)))
    if len(other):
        row = rows[other[0]]
        owner = row_image[row]
        raise UserError(
            f"{images.where}: rows {index.image_rows[owner]} and {row} belong to image id "
            f"{quoted(str(index.image_ids[owner]))} but differ (cosine {cosines[other[0]]:.4f}, {len(other)} such "
            "rows), as much as rows of other images: correct `image_ids` if they show different images, else encode "
            "the image once"
        )
    return float(cosines.min())


def _spread(images: Rows, index: PairIndex) -> float:
    """Return the mean squared distance of images from their mean, infinite if there are too few to estimate it."""
    rows = index.image_rows[:: -(-len(index.image_rows) // SPREAD_IMAGES)]
    if len(rows) < 3:
        return float("inf")
    sample = images.take(rows).float()
    return float((sample - sample.mean(0)).square().sum(1).mean())
