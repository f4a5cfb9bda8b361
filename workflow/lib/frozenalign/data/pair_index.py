"""Which rows of the image and text files make the pairs of a data set, images held once."""

from dataclasses import dataclass, field

import numpy as np


def no_rows() -> np.ndarray:
    """Return an empty list of row numbers, (0,)."""
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class PairIndex:
    """Which rows make the pairs, images held once: pair i is text row i and image `pair_image[i]`.

    image_ids: (n_images,) text, in the order of image_rows.
    image_rows: (n_images,) ascending rows of the image file, the first of each image.
    pair_image: (N,) index into the two above.
    further_rows: (k,) ascending rows that are averaged with the first row of their image.
    further_image: (k,) index of the image of each.
    """

    image_ids: np.ndarray
    image_rows: np.ndarray
    pair_image: np.ndarray
    further_rows: np.ndarray = field(default_factory=no_rows)
    further_image: np.ndarray = field(default_factory=no_rows)
