"""Sums over all pairs of a batch, with their gradients, tile by tile: the (B, B) matrix of logits never exists.

Where image indices (B,) are given, other pairs of an anchor's own image are left out of its sum: they are no negatives.

The forward pass computes each tile's gradient as well: memory grows with B, tiles stay in the cache, and the backward
pass only scales the result.

Of several processes, each computes the tiles of its own rows and all columns.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.losses.registry import ContrastiveLoss
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import SMALLEST_TILE, add_product, blocks, product, tile_size

# Before them, `apply` gets the size of a tile, this process's rows, x, y and image indices.
FIRST_LEARNED = 5


class TiledLoss(ContrastiveLoss):
    """A loss whose logits (B, B) are computed tile by tile, the tiles as large as the device's memory holds."""

    shares_rows = True

    def __init__(self) -> None:
        super().__init__()
        self.tiles = FittingSize("rows and columns of the loss", SMALLEST_TILE, "lower training.batch_size")

    def by_tiles(self, compute: Callable[..., Any], x: Tensor, y: Tensor, image_index: Tensor, *further: Tensor) -> Any:
        """Return what `compute` does with this process's rows of x (B, D), all of y (B, D), and further values."""
        masked, rows = image_index if self.mask_same_image else None, self.processes.rows(len(x))
        return self.tiles.run(compute, tile_size(x.device), x.device, rows, x, y, masked, *further)


class _PairSum(torch.autograd.Function):
    """A sum over pairs whose forward pass has saved its gradients by x, y and the learned values.

    Its arguments are those of `_ScaledPairs`, then the learned values, then constants.
    """

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments of `forward`."""
        by_x, by_y, *by_learned = (upstream * gradient for gradient in ctx.saved_tensors)
        constants = len(ctx.needs_input_grad) - FIRST_LEARNED - len(by_learned)
        return None, None, by_x, by_y, None, *by_learned, *[None] * constants


class SigmoidPairs(_PairSum):
    """-Σij log σ(z_ij l_ij) with l = scale x yᵀ + bias, z = 1 for i = j and -1 elsewhere."""

    @staticmethod
    def forward(
        ctx: Any, size: int, own: slice, x: Tensor, y: Tensor, image_index: Tensor | None, scale: Tensor, bias: Tensor
    ) -> Tensor:
        """Return the sum for the rows `own` of features (B, D) and (B, D), in tiles of `size` rows and columns."""
        pairs = _ScaledPairs(size, own, x, y, image_index, scale)
        total, slope_sum = x.new_zeros(()), x.new_zeros(())
        for rows, columns in pairs.tiles:
            logits = pairs.logits(rows, columns).add_(bias)
            total += functional.softplus(logits).sum() - _diagonal(logits, rows, columns).sum()
            slopes = logits.sigmoid_()
            _diagonal(slopes, rows, columns).sub_(1)
            pairs.add_slopes(rows, columns, slopes)
            slope_sum += slopes.sum()
        ctx.save_for_backward(*pairs.gradients(), slope_sum)
        return total


@torch.no_grad()
def log_sums(
    size: int, own: slice, x: Tensor, y: Tensor, image_index: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log Σ exp of the logits scale x yᵀ by row and by column, (B,) and (B,), over the rows `own`."""
    pairs = _ScaledPairs(size, own, x, y, image_index, scale)
    by_row, by_column = (rows.new_full((len(rows),), -torch.inf) for rows in (x, y))
    for rows, columns in pairs.tiles:
        logits = pairs.logits(rows, columns)
        by_row[rows] = torch.logaddexp(by_row[rows], logits.logsumexp(1))
        by_column[columns] = torch.logaddexp(by_column[columns], logits.logsumexp(0))
    return by_row, by_column


class SoftmaxPairs(_PairSum):
    """Σi (lse_j l_ij + lse_j l_ji - 2 l_ii) with l = scale x yᵀ: the cross-entropies of both directions, added up."""

    @staticmethod
    def forward(
        ctx: Any,
        size: int,
        own: slice,
        x: Tensor,
        y: Tensor,
        image_index: Tensor | None,
        scale: Tensor,
        by_row: Tensor,
        by_column: Tensor,
    ) -> Tensor:
        """Return the sum for the rows `own` of features (B, D) and (B, D), in tiles of `size` rows and columns.

        by_row, by_column: (B,) what `log_sums` returns; by_column over all rows.
        """
        pairs = _ScaledPairs(size, own, x, y, image_index, scale)
        total = x.new_zeros(())
        for rows, columns in pairs.tiles:
            logits = pairs.logits(rows, columns)
            total -= 2 * _diagonal(logits, rows, columns).sum()
            slopes = (logits - by_row[rows, None]).exp_()
            slopes += logits.sub_(by_column[None, columns]).exp_()
            _diagonal(slopes, rows, columns).sub_(2)
            pairs.add_slopes(rows, columns, slopes)
        ctx.save_for_backward(*pairs.gradients())
        return total + by_row[own].sum() + by_column[own].sum()


class _ScaledPairs:
    """Tiles of the rows `own` of scale x yᵀ, and the gradients of a sum over them by x (B, D), y (B, D) and scale."""

    def __init__(self, size: int, own: slice, x: Tensor, y: Tensor, image_index: Tensor | None, scale: Tensor) -> None:
        self.x, self.y, self.scale, self.image_index = x * scale, y, scale, image_index
        own_blocks = [
            slice(own.start + rows.start, own.start + rows.stop) for rows in blocks(own.stop - own.start, size)
        ]
        self.tiles = list(itertools.product(own_blocks, blocks(len(y), size)))
        self.x_gradient, self.y_gradient = torch.zeros_like(x), torch.zeros_like(y)

    def logits(self, rows: slice, columns: slice) -> Tensor:
        """Return the logits of a tile, minus infinity where a pair is left out."""
        logits = product(self.x[rows], self.y[columns].T)
        if self.image_index is None:
            return logits
        same = self.image_index[rows, None] == self.image_index[None, columns]
        _diagonal(same, rows, columns).fill_(False)
        return logits.masked_fill_(same, -torch.inf)

    def add_slopes(self, rows: slice, columns: slice, slopes: Tensor) -> None:
        """Add the derivatives of the sum by the logits of a tile."""
        add_product(self.x_gradient[rows], slopes, self.y[columns])
        add_product(self.y_gradient[columns], slopes.T, self.x[rows])

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, y and scale, after all tiles were added."""
        by_scale = (self.x_gradient * self.x).sum() / self.scale
        return self.x_gradient.mul_(self.scale), self.y_gradient, by_scale


def _diagonal(tile: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return a view of the whole matrix's diagonal within a tile, empty for a tile off the diagonal."""
    return tile.diagonal(rows.start - columns.start)
