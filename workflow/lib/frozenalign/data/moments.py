"""Means and covariances of training pairs, summed in one pass."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from frozenalign.system.errors import UserError
from frozenalign.system.memory_left import gigabytes, memory_left
from frozenalign.system.products import blocks, product

PAIRS_AT_ONCE = 1024
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


def moments_fit(image_dim: int, text_dim: int) -> bool:
    """Return whether memory can hold the covariances of embeddings of these widths."""
    return moment_bytes(image_dim, text_dim) <= memory_left()


def moment_bytes(image_dim: int, text_dim: int) -> int:
    """Return the bytes of the covariances of both modalities and of the one between them."""
    return torch.float64.itemsize * (image_dim**2 + text_dim**2 + image_dim * text_dim)


def _refuse_too_wide(image_dim: int, text_dim: int) -> None:
    if not moments_fit(image_dim, text_dim):
        needed, left = gigabytes(moment_bytes(image_dim, text_dim)), gigabytes(memory_left())
        raise UserError(
            f"second moments of {image_dim} image and {text_dim} text dimensions take {needed} where {left} are "
            "left: reduce the dimensions, or do without closed forms (`baselines: []`, and in experiments "
            "`skip: none`, `init: random`, `whitening: none` and a number for `noise`)"
        )


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


class PairSums:
    """Sums of images and texts of pairs, and of their outer products.

    Both are taken about a fixed point near the mean, which limits cancellation. Products are float32, of one part; the
    sums are float64. Of a symmetric matrix only panels from the diagonal rightwards are summed.

    images, texts: float32 rows (n, D_image) and (b, D_text) near whose mean that point is.
    """

    def __init__(self, images: Tensor, texts: Tensor) -> None:
        self.origins = [_origin(rows) for rows in (images, texts)]
        self.count = 0
        image, text = self.totals = [torch.zeros_like(origin, dtype=torch.float64) for origin in self.origins]
        self.image, self.text, self.cross = (
            image.new_zeros(len(left), len(right)) for left, right in ((image, image), (text, text), (image, text))
        )

    def add(self, images: Tensor, texts: Tensor, text_image: Tensor | None = None) -> None:
        """Add the pairs of images (n, D_image) and texts (b, D_text).

        text_image: (b,) the index of each text's image; without it, row i of both is a pair.
        """
        images, texts = images - self.origins[0], texts - self.origins[1]
        repeated, text_sums = (images, texts) if text_image is None else _by_image(images, texts, text_image)
        self.count += len(texts)
        for total, rows in zip(self.totals, (repeated, texts), strict=True):
            total += rows.sum(0)
        _add_symmetric(self.text, texts, texts)
        _add_symmetric(self.image, repeated, images)
        _add_products(self.cross, images, text_sums)

    def moments(self) -> Moments:
        """Return means and covariances, computed in place of the sums."""
        image, text = offsets = [total / self.count for total in self.totals]
        for products, left, right in ((self.image, image, image), (self.text, text, text), (self.cross, image, text)):
            products.div_(self.count).addr_(left, right, alpha=-1)
        for products in (self.image, self.text):
            mirror(products)
        means = (origin + offset for origin, offset in zip(self.origins, offsets, strict=True))
        return Moments(*means, self.image, self.text, self.cross)


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
