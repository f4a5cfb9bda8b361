"""Where the matches of a retrieval stand, the one thing that every metric is computed from."""

from dataclasses import dataclass

import numpy as np


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
