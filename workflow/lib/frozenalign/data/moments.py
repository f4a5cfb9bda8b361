"""Means and covariances of training pairs, summed in one pass."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from frozenalign.system.memory import refuse_beyond_memory
from frozenalign.system.products import blocks, product, reduced_precision

# The remedy where embeddings are too wide for what is left of memory.
WITHOUT_CLOSED_FORMS = (
    "give the job more, reduce the dimensions, or do without closed forms (`baselines: []`, and in experiments "
    "`skip: none`, `init: random`, `whitening: none` and a number for `noise`)"
)
PAIRS_AT_ONCE = 1024
STANDARDIZED_AT_ONCE = 2048
PANEL_ROWS = 256


@dataclass(frozen=True)
class Moments:
    """Means (D,) and covariances of N training pairs, every pair counted once, in float64.

    image_covariance (D_image, D_image), text_covariance (D_text, D_text), cross_covariance (D_image, D_text).
    """

    image_mean: Tensor
    text_mean: Tensor
    image_covariance: Tensor
    text_covariance: Tensor
    cross_covariance: Tensor

    @classmethod
    def of(cls, chunks: Iterable[tuple[Tensor, Tensor]]) -> "Moments":
        """Sum over chunks of pairs, images (b, D_image) and texts (b, D_text), of any floating type.

        Besides one chunk, memory holds the sums, which become the covariances, and some tens of megabytes. If the sums
        do not fit into memory, a UserError says so.
        """
        return _summed(
            (x, y, None)
            for chunk in chunks
            for x, y in zip(*(each.split(PAIRS_AT_ONCE) for each in chunk), strict=True)
        )

    @classmethod
    def of_captions(cls, chunks: Iterable[tuple[Tensor, Tensor, Tensor]]) -> "Moments":
        """Sum over chunks of images (n, D_image), texts (b, D_text) and the index (b,) of each text's image.

        The sums are those of the b pairs. Products with images are computed once an image instead of once a pair.
        Memory is as for `of`.
        """
        return _summed(chunks)

    def to_cpu(self) -> "Moments":
        """Return the same values in the memory of the CPU."""
        return Moments(*(value.cpu() for value in vars(self).values()))

    @classmethod
    def of_rows(cls, images: Tensor, texts: Tensor, text_image: Tensor) -> "Moments":
        """Sum over all pairs of unique images (N, D_image) and texts (M, D_text); text j shows image text_image[j]."""
        owners = (owner.unique(return_inverse=True) for owner in text_image.split(PAIRS_AT_ONCE))
        parts = zip(owners, texts.split(PAIRS_AT_ONCE), strict=True)
        return cls.of_captions((images.index_select(0, own), part, place) for (own, place), part in parts)


def moment_bytes(image_dim: int, text_dim: int) -> int:
    """Return the bytes of the covariances of both modalities and of the one between them."""
    return torch.float64.itemsize * (image_dim**2 + text_dim**2 + image_dim * text_dim)


def _refuse_too_wide(image_dim: int, text_dim: int) -> None:
    what = f"summing the second moments of {image_dim} image and {text_dim} text dimensions"
    refuse_beyond_memory(moment_bytes(image_dim, text_dim), what, WITHOUT_CLOSED_FORMS)


def mirror(matrix: Tensor) -> None:
    """Make a matrix (D, D) symmetric, to the last bit, by what stands above its diagonal."""
    for panel in blocks(len(matrix), PANEL_ROWS):
        matrix[panel.stop :, panel] = matrix[panel, panel.stop :].T
        own = matrix[panel, panel]
        own.copy_(own.triu() + own.triu(1).T)


def _summed(parts: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> Moments:
    sums = None
    for images, texts, text_image in parts:
        if sums is None:
            _refuse_too_wide(images.shape[1], texts.shape[1])
            sums = PairSums(images.float(), texts.float())
        sums.add(images, texts, text_image)
    if sums is None:
        raise ValueError("moments of no pairs")
    return sums.moments()


class RowSums:
    """Sums of rows, and of their outer products, about a fixed point near their mean, which limits cancellation.

    Products are float32, of one part; the sums are float64. Only panels from the diagonal rightwards are summed.

    origin: (D,) that point, in float32.
    """

    def __init__(self, origin: Tensor) -> None:
        self.origin = origin
        self.total = torch.zeros_like(origin, dtype=torch.float64)
        self.products = self.total.new_zeros(len(origin), len(origin))

    def add(self, rows: Tensor, repeated: Tensor | None = None) -> None:
        """Add float32 rows (b, D) less the origin; repeated: each times how often it counts, without it once."""
        repeated = rows if repeated is None else repeated
        self.total += repeated.sum(0)
        _add_symmetric(self.products, repeated, rows)

    def mean_and_covariance(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the mean (D,) and the covariance (D, D) of `count` rows, the latter in place of the products."""
        offset = self.total / count
        self.products.div_(count).addr_(offset, offset, alpha=-1)
        mirror(self.products)
        return self.origin + offset, self.products


class PairSums:
    """Sums of images and texts of pairs, and of their outer products within and between them.

    images, texts: float32 rows (n, D_image) and (b, D_text) near whose mean the point is that sums are taken about.
    """

    def __init__(self, images: Tensor, texts: Tensor) -> None:
        self.image, self.text = RowSums(_origin(images)), RowSums(_origin(texts))
        self.cross = self.image.total.new_zeros(images.shape[1], texts.shape[1])
        self.count = 0

    def add(self, images: Tensor, texts: Tensor, text_image: Tensor | None = None) -> None:
        """Add the pairs of images (n, D_image) and texts (b, D_text).

        text_image: (b,) the index of each text's image; without it, row i of both is a pair.
        """
        images, texts = images - self.image.origin, texts - self.text.origin
        repeated, text_sums = (images, texts) if text_image is None else _by_image(images, texts, text_image)
        self.count += len(texts)
        self.image.add(images, repeated)
        self.text.add(texts)
        _add_products(self.cross, images, text_sums)

    def moments(self) -> Moments:
        """Return means and covariances, computed in place of the sums."""
        offsets = [sums.total / self.count for sums in (self.image, self.text)]
        cross = self.cross.div_(self.count).addr_(*offsets, alpha=-1)
        (image_mean, image), (text_mean, text) = (
            each.mean_and_covariance(self.count) for each in (self.image, self.text)
        )
        return Moments(image_mean, text_mean, image, text, cross)


def standardized_covariances(chunks: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the covariances (D_image, D_image) and (D_text, D_text) of standardised pairs, in float64.

    chunks: images (b, D_image) and texts (b, D_text), of any floating type. Products of rows in bf16 are the same in
    every format that has its fraction, so that a device may take its fastest.
    """
    sums, count = None, 0
    for chunk in chunks:
        if sums is None:
            _refuse_too_wide(*(rows.shape[1] for rows in chunk))
            sums = [RowSums(torch.zeros_like(rows[0], dtype=torch.float32)) for rows in chunk]
        count += len(chunk[0])
        with reduced_precision(chunk[0]):
            for each, rows in zip(sums, chunk, strict=True):
                for part in rows.split(STANDARDIZED_AT_ONCE):
                    each.add(part.float())
    image, text = (each.mean_and_covariance(count)[1] for each in sums)
    return image, text


def _by_image(images: Tensor, texts: Tensor, text_image: Tensor) -> tuple[Tensor, Tensor]:
    """Return images times the number of their texts (n, D_image), and the sums of their texts (n, D_text)."""
    counts = torch.bincount(text_image, minlength=len(images))
    text_sums = texts.new_zeros(len(images), texts.shape[1]).index_add_(0, text_image, texts)
    return images * counts[:, None], text_sums


def _add_products(products: Tensor, left: Tensor, right: Tensor) -> None:
    """Add leftᵀ right of float32 rows (b, D) and (b, K) to products (D, K)."""
    left, right = _columns(left), _columns(right)
    for panel in blocks(len(products), PANEL_ROWS):
        products[panel] += product(left[panel], right.T)


def _add_symmetric(products: Tensor, left: Tensor, right: Tensor) -> None:
    """Add leftᵀ right, which is symmetric, of float32 rows (b, D) to products (D, D), from the diagonal rightwards."""
    columns = _columns(left)
    others = columns if right is left else _columns(right)
    for panel in blocks(len(products), PANEL_ROWS):
        products[panel, panel.start :] += product(columns[panel], others[panel.start :].T)


def _columns(rows: Tensor) -> Tensor:
    """Return the columns (D, b) of rows: oneDNN is far slower where the numbers to be summed are not side by side."""
    return rows.T.contiguous()


def _origin(rows: Tensor) -> Tensor:
    """Return the mean (D,) of rows (N, D), and of a dimension of equal numbers the number itself.

    The mean of equal numbers may be off by a rounding, and such a dimension has to be exactly zero about its origin.
    """
    return torch.where((rows == rows[0]).all(0), rows[0], rows.mean(0))
