"""Sums over all pairs of a batch, with their gradients, tile by tile: the (B, B) matrix of logits never exists.

Where image indices (B,) are given, other pairs of an anchor's own image are left out of its sum: they are no negatives.

The gradients are computed with the sum: memory grows with B, tiles stay in the cache, and the backward pass only scales
the result.

Of several processes, each computes the tiles of its own rows x (b, D) opposite some or all columns y (c, D); `own` and
`opposite` say which of the batch these are.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.losses.registry import ContrastiveLoss
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import SMALLEST_TILE, add_product, blocks, factor, product, tile_size


class TiledLoss(ContrastiveLoss):
    """A loss whose logits (B, B) are computed tile by tile, the tiles as large as the device's memory holds."""

    shares_rows = True

    def __init__(self) -> None:
        super().__init__()
        self.tiles = FittingSize("rows and columns of the loss", SMALLEST_TILE, "lower training.batch_size")

    def by_tiles(self, compute: Callable[..., Any], image_index: Tensor, opposite: slice, *tensors: Tensor) -> Any:
        """Return what `compute` does with this process's rows and some columns of a batch.

        compute: gets the size of a tile, `own`, `opposite`, the image indices (B,) if they count, and the tensors.
        """
        device, own = image_index.device, self.processes.rows(len(image_index))
        masked = image_index if self.mask_same_image else None
        return self.tiles.run(compute, tile_size(device), device, own, opposite, masked, *tensors)


class PairSum(torch.autograd.Function):
    """A sum over pairs that is computed together with its gradients."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> Tensor:
        """Return the first of what compute(*inputs) returns; the others are its gradients, one for each input."""
        total, *gradients = compute(*inputs)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments of `forward`."""
        return None, *(upstream * gradient for gradient in ctx.saved_tensors)


def sigmoid_sum(
    size: int,
    own: slice,
    opposite: slice,
    image_index: Tensor | None,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    bias: Tensor,
) -> tuple[Tensor, ...]:
    """Return -Σij log σ(z_ij l_ij) and its gradients by x, y, scale and bias, in tiles of `size` rows and columns.

    l = scale x yᵀ + bias, z = 1 for i = j and -1 elsewhere.
    """
    pairs = _ScaledPairs(size, own, opposite, image_index, x, y, scale)
    total, slope_sum = x.new_zeros(()), x.new_zeros(())
    for rows, columns in pairs.tiles:
        logits = pairs.logits(rows, columns).add_(bias)
        total += functional.softplus(logits).sum() - pairs.matches(logits, rows, columns).sum()
        slopes = logits.sigmoid_()
        pairs.matches(slopes, rows, columns).sub_(1)
        pairs.add_slopes(rows, columns, slopes)
        slope_sum += slopes.sum()
    return total, *pairs.gradients(), slope_sum


@torch.no_grad()
def log_sums(
    size: int, own: slice, opposite: slice, image_index: Tensor | None, x: Tensor, y: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log Σ exp of the logits scale x yᵀ by row and by column, (b,) and (c,)."""
    pairs = _ScaledPairs(size, own, opposite, image_index, x, y, scale)
    by_row, by_column = (rows.new_full((len(rows),), -torch.inf) for rows in (x, y))
    for rows, columns in pairs.tiles:
        logits = pairs.logits(rows, columns)
        by_row[rows] = torch.logaddexp(by_row[rows], logits.logsumexp(1))
        by_column[columns] = torch.logaddexp(by_column[columns], logits.logsumexp(0))
    return by_row, by_column


def softmax_sum(
    size: int,
    own: slice,
    opposite: slice,
    image_index: Tensor | None,
    by_row: Tensor,
    by_column: Tensor,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
) -> tuple[Tensor, ...]:
    """Return Σi (lse_j l_ij + lse_j l_ji - 2 l_ii), l = scale x yᵀ, and its gradients by x, y and scale.

    These are the cross-entropies of both directions, added up. by_row, by_column: (b,) and (B,), what `log_sums`
    returns, by_column over the rows of all processes; y: all columns (B, D).
    """
    pairs = _ScaledPairs(size, own, opposite, image_index, x, y, scale)
    total = by_row.sum() + by_column[own].sum()
    for rows, columns in pairs.tiles:
        logits = pairs.logits(rows, columns)
        total -= 2 * pairs.matches(logits, rows, columns).sum()
        slopes = (logits - by_row[rows, None]).exp_()
        slopes += logits.sub_(by_column[None, columns]).exp_()
        pairs.matches(slopes, rows, columns).sub_(2)
        pairs.add_slopes(rows, columns, slopes)
    return total, *pairs.gradients()


class _ScaledPairs:
    """Tiles of scale x yᵀ (b, c), and the gradients of a sum over them by x (b, D), y (c, D) and scale."""

    def __init__(
        self, size: int, own: slice, opposite: slice, image_index: Tensor | None, x: Tensor, y: Tensor, scale: Tensor
    ) -> None:
        self.scaled, self.scale = x * scale, scale
        self.x, self.y = factor(self.scaled), factor(y)
        self.images = None if image_index is None else (image_index[own, None], image_index[None, opposite])
        self.diagonal = own.start - opposite.start
        self.tiles = list(itertools.product(blocks(len(x), size), blocks(len(y), size)))
        self.x_gradient, self.y_gradient = torch.zeros_like(x), torch.zeros_like(y)

    def logits(self, rows: slice, columns: slice) -> Tensor:
        """Return the logits of a tile, minus infinity where a pair is left out."""
        logits = product(self.x[rows], self.y[columns].T)
        if self.images is None:
            return logits
        same = self.images[0][rows] == self.images[1][:, columns]
        self.matches(same, rows, columns).fill_(False)
        return logits.masked_fill_(same, -torch.inf)

    def matches(self, tile: Tensor, rows: slice, columns: slice) -> Tensor:
        """Return a view of the true pairs within a tile, empty for a tile off the diagonal of the batch."""
        return tile.diagonal(self.diagonal + rows.start - columns.start)

    def add_slopes(self, rows: slice, columns: slice, slopes: Tensor) -> None:
        """Add the derivatives of the sum by the logits of a tile."""
        slopes = factor(slopes)
        add_product(self.x_gradient[rows], slopes, self.y[columns])
        add_product(self.y_gradient[columns], slopes.T, self.x[rows])

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, y and scale, after all tiles were added."""
        by_scale = (self.x_gradient * self.scaled).sum() / self.scale
        return self.x_gradient.mul_(self.scale), self.y_gradient, by_scale
