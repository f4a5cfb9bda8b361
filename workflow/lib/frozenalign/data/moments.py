"""Means and covariances of training pairs, summed in one pass."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from frozenalign.system.errors import UserError
from frozenalign.system.memory_left import gigabytes, memory_left

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

        Besides one chunk, memory holds the sums, (D_image + D_text)² of float64, and some tens of megabytes. If the
        sums do not fit into memory, a UserError says so.
        """
        sums = None
        for images, texts in chunks:
            width = images.shape[1]
            if sums is None:
                _refuse_too_wide(width, texts.shape[1])
            for x, y in zip(images.split(PAIRS_AT_ONCE), texts.split(PAIRS_AT_ONCE), strict=True):
                rows = torch.cat([x, y], dim=1).float()
                sums = sums or _Sums(rows)
                sums.add(rows)
        if sums is None:
            raise ValueError("moments of no pairs")
        mean, covariance = sums.mean_and_covariance()
        image, text = slice(width), slice(width, None)
        return cls(mean[image], mean[text], covariance[image, image], covariance[text, text], covariance[image, text])

    @classmethod
    def of_rows(cls, images: Tensor, texts: Tensor, text_image: Tensor) -> "Moments":
        """Sum over all pairs of unique images (N, D_image) and texts (M, D_text); text j shows image text_image[j]."""
        owners = text_image.split(PAIRS_AT_ONCE)
        parts = zip(owners, texts.split(PAIRS_AT_ONCE), strict=True)
        return cls.of((images.index_select(0, owner), part) for owner, part in parts)


def moments_fit(image_dim: int, text_dim: int) -> bool:
    """Return whether memory can hold the second moments of embeddings of these widths, and their covariances."""
    return moment_bytes(image_dim, text_dim) <= memory_left()


def moment_bytes(image_dim: int, text_dim: int) -> int:
    return 2 * torch.float64.itemsize * (image_dim + text_dim) ** 2


def _refuse_too_wide(image_dim: int, text_dim: int) -> None:
    if not moments_fit(image_dim, text_dim):
        needed, left = gigabytes(moment_bytes(image_dim, text_dim)), gigabytes(memory_left())
        raise UserError(
            f"second moments of {image_dim} image and {text_dim} text dimensions take {needed} where {left} are "
            "left: reduce the dimensions, or do without closed forms (`baselines: []`, and in experiments "
            "`skip: none`, `init: random`, `whitening: none` and a number for `noise`)"
        )


class _Sums:
    """Sums of rows (N, D) and of their outer products about a fixed point near the mean, which limits cancellation.

    Products are float32, of one chunk; the sums are float64. Of the symmetric matrix only panels from the diagonal
    rightwards are summed.
    """

    def __init__(self, rows: Tensor) -> None:
        # The mean of equal numbers may be off by a rounding: the number itself makes a constant dimension exactly zero.
        constant = (rows == rows[0]).all(0)
        self.origin = torch.where(constant, rows[0], rows.mean(0))
        self.count = 0
        self.total = torch.zeros_like(self.origin, dtype=torch.float64)
        self.products = self.total.new_zeros(len(self.total), len(self.total))

    def add(self, rows: Tensor) -> None:
        rows = rows - self.origin
        self.count += len(rows)
        self.total += rows.sum(0)
        for start in range(0, rows.shape[1], PANEL_ROWS):
            end = start + PANEL_ROWS
            self.products[start:end, start:] += rows[:, start:end].T @ rows[:, start:]

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Return mean (D,) and covariance (D, D), computed in place of the sums."""
        for end in range(PANEL_ROWS, len(self.total), PANEL_ROWS):
            self.products[end:, end - PANEL_ROWS : end] = self.products[end - PANEL_ROWS : end, end:].T
        offset = self.total / self.count
        return self.origin + offset, self.products.div_(self.count).addr_(offset, offset, alpha=-1)
