"""Means and covariances of training pairs, summed in one pass."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from frozenalign.system.errors import UserError
from frozenalign.system.memory_left import gigabytes, memory_left
from frozenalign.system.products import blocks

PAIRS_AT_ONCE = 1024
PANEL_ROWS = 512


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
        sums = None
        for images, texts in chunks:
            if sums is None:
                _refuse_too_wide(images.shape[1], texts.shape[1])
            for x, y in zip(images.split(PAIRS_AT_ONCE), texts.split(PAIRS_AT_ONCE), strict=True):
                x, y = x.float(), y.float()
                sums = sums or _Sums(x, y)
                sums.add(x, y)
        if sums is None:
            raise ValueError("moments of no pairs")
        return sums.moments()

    def to_cpu(self) -> "Moments":
        """Return the same values in the memory of the CPU."""
        return Moments(*(value.cpu() for value in vars(self).values()))

    @classmethod
    def of_rows(cls, images: Tensor, texts: Tensor, text_image: Tensor) -> "Moments":
        """Sum over all pairs of unique images (N, D_image) and texts (M, D_text); text j shows image text_image[j]."""
        owners = text_image.split(PAIRS_AT_ONCE)
        parts = zip(owners, texts.split(PAIRS_AT_ONCE), strict=True)
        return cls.of((images.index_select(0, owner), part) for owner, part in parts)


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


class _Sums:
    """Sums of images (N, D_image) and texts (N, D_text), and of their outer products.

    Both are taken about a fixed point near the mean, which limits cancellation. Products are float32, of one chunk; the
    sums are float64. Of a symmetric matrix only panels from the diagonal rightwards are summed.
    """

    def __init__(self, images: Tensor, texts: Tensor) -> None:
        self.origins = [_origin(rows) for rows in (images, texts)]
        self.count = 0
        image, text = self.totals = [torch.zeros_like(origin, dtype=torch.float64) for origin in self.origins]
        self.image, self.text, self.cross = (
            image.new_zeros(len(left), len(right)) for left, right in ((image, image), (text, text), (image, text))
        )

    def add(self, images: Tensor, texts: Tensor) -> None:
        images, texts = (rows - origin for rows, origin in zip((images, texts), self.origins, strict=True))
        self.count += len(images)
        for total, rows in zip(self.totals, (images, texts), strict=True):
            total += rows.sum(0)
        for products, left, right in (
            (self.image, images, None),
            (self.text, texts, None),
            (self.cross, images, texts),
        ):
            for panel in blocks(len(products), PANEL_ROWS):
                first = panel.start if right is None else 0
                products[panel, first:] += left[:, panel].T @ (left if right is None else right)[:, first:]

    def moments(self) -> Moments:
        """Return means and covariances, computed in place of the sums."""
        image, text = offsets = [total / self.count for total in self.totals]
        for products, left, right in ((self.image, image, image), (self.text, text, text), (self.cross, image, text)):
            products.div_(self.count).addr_(left, right, alpha=-1)
        for products in (self.image, self.text):
            mirror(products)
        means = (origin + offset for origin, offset in zip(self.origins, offsets, strict=True))
        return Moments(*means, self.image, self.text, self.cross)


def _origin(rows: Tensor) -> Tensor:
    """Return the mean (D,) of rows (N, D), and of a dimension of equal numbers the number itself.

    The mean of equal numbers may be off by a rounding, and such a dimension has to be exactly zero about its origin.
    """
    return torch.where((rows == rows[0]).all(0), rows[0], rows.mean(0))
