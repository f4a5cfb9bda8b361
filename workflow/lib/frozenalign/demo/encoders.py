"""Two small frozen encoders for the demo data: pictures by pixels, colours and edges; captions by their words.

They stand in for large pretrained encoders: fitted once on scenes of their own, they map each picture or caption alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

WIDTH = 256
CHUNK_PICTURES = 256
THUMBNAIL = 16
CELLS = 4
SHADES = 4
DIRECTIONS = 12


@dataclass(frozen=True)
class ImageEncoder:
    """Features of a picture, each group scaled to equal variance (`scales`), projected by a PCA."""

    scales: np.ndarray
    projection: PCA

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """Map pictures (N, S, S, 3) uint8 to embeddings (N, 256) float32."""
        chunks = [self.projection.transform(features * self.scales) for features in _in_chunks(pictures)]
        return np.concatenate(chunks).astype(np.float32)


@dataclass(frozen=True)
class TextEncoder:
    """TF-IDF weights of words and neighbouring words, projected by a truncated SVD."""

    pipeline: Pipeline

    def encode(self, captions: Sequence[str]) -> np.ndarray:
        """Map captions (N) to embeddings (N, 256) float32; a caption without any known word becomes a row of zeros."""
        return self.pipeline.transform(captions).astype(np.float32)


def fit_image_encoder(pictures: np.ndarray, seed: int) -> ImageEncoder:
    """Fit the encoder of pictures.

    pictures: at least 256 that are never encoded later, (N, S, S, 3) uint8, S a multiple of 16. seed: of the
    randomised projection.
    """
    features = np.concatenate(list(_in_chunks(pictures)))
    # Each group of features gets a total variance of 1.
    totals = [group.sum() for group in np.split(features.var(axis=0), np.cumsum(_GROUP_WIDTHS)[:-1])]
    scales = np.repeat(1 / np.sqrt(totals), _GROUP_WIDTHS).astype(np.float32)
    return ImageEncoder(scales, PCA(WIDTH, svd_solver="randomized", random_state=seed).fit(features * scales))


def fit_text_encoder(captions: Sequence[str], seed: int) -> TextEncoder:
    """Fit the encoder of captions by latent semantic analysis (Deerwester et al. 1990).

    captions: with more than 256 different n-grams, none of them encoded later. seed: of the randomised projection.
    """
    weighting = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32)
    return TextEncoder(make_pipeline(weighting, TruncatedSVD(WIDTH, random_state=seed)).fit(captions))


def _in_chunks(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the features of some pictures at a time, so that memory stays small."""
    for start in range(0, len(pictures), CHUNK_PICTURES):
        values = pictures[start : start + CHUNK_PICTURES].astype(np.float32) / 255
        yield np.concatenate([group(values).reshape(len(values), -1) for group in _GROUPS], axis=1)


def _thumbnail(pictures: np.ndarray) -> np.ndarray:
    """Return block means (n, 16, 16, 3)."""
    count, size, _, channels = pictures.shape
    block = size // THUMBNAIL
    blocks = pictures.reshape(count, THUMBNAIL, block, THUMBNAIL, block, channels)
    return np.einsum("nrycxk->nrck", blocks) / block**2


def _colour_grid(pictures: np.ndarray) -> np.ndarray:
    """Return the share of 4 x 4 x 4 colours in each cell, (n, 4, 4, 64), under a square root (Hellinger)."""
    steps = np.minimum((pictures * SHADES).astype(np.intp), SHADES - 1)
    colours = (steps[..., 0] * SHADES + steps[..., 1]) * SHADES + steps[..., 2]
    return np.sqrt(_cell_histograms(colours, np.ones_like(pictures[..., 0]), SHADES**3))


def _edge_grid(pictures: np.ndarray) -> np.ndarray:
    """Return gradient strength by direction in each cell, (n, 4, 4, 12), as in HOG (Dalal and Triggs 2005)."""
    grey = pictures @ np.full(3, 1 / 3, np.float32)
    down, across = np.gradient(grey, axis=(1, 2))
    turn = np.arctan2(down, across) / (2 * np.pi) + 0.5
    directions = np.minimum((turn * DIRECTIONS).astype(np.intp), DIRECTIONS - 1)
    return np.sqrt(_cell_histograms(directions, np.hypot(down, across), DIRECTIONS))


_GROUPS = (_thumbnail, _colour_grid, _edge_grid)
_GROUP_WIDTHS = (THUMBNAIL**2 * 3, CELLS**2 * SHADES**3, CELLS**2 * DIRECTIONS)


def _cell_histograms(bins: np.ndarray, weights: np.ndarray, bin_count: int) -> np.ndarray:
    """Return the sum of weights (n, S, S) by bin (n, S, S) in each cell, (n, 4, 4, bin_count)."""
    count, size, _ = bins.shape
    cell = np.arange(size) * CELLS // size
    place = (np.arange(count)[:, None, None] * CELLS + cell[:, None]) * CELLS + cell
    flat = np.bincount((place * bin_count + bins).ravel(), weights.ravel(), count * CELLS**2 * bin_count)
    return flat.reshape(count, CELLS, CELLS, bin_count).astype(np.float32)
