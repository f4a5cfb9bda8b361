"""Sums over all pairs of a batch, with their gradients, tile by tile: the (B, B) matrix of logits never exists.

Where image indices (B,) are given, other pairs of an anchor's own image are left out of its sum: they are no negatives.

The forward pass computes each tile's gradient as well: memory grows with B, tiles stay in the cache, and the backward
pass only scales the result.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.losses.registry import ContrastiveLoss
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import SMALLEST_TILE, add_product, product, tile_size, tiles


class TiledLoss(ContrastiveLoss):
    """A loss whose logits (B, B) are computed tile by tile, the tiles as large as the device's memory holds."""

    def __init__(self) -> None:
        super().__init__()
        self.tiles = FittingSize("rows and columns of the loss", SMALLEST_TILE, "lower training.batch_size")

    def sum_over(
        self, pairs: type[torch.autograd.Function], x: Tensor, y: Tensor, image_index: Tensor, *learned: Tensor
    ) -> Tensor:
        """Return the sum that `pairs` takes of features (B, D) and (B, D), given its scale and bias."""
        masked = image_index if self.mask_same_image else None
        return self.tiles.run(pairs.apply, tile_size(x.device), x.device, x, y, masked, *learned)


class _PairSum(torch.autograd.Function):
    """A sum over pairs whose forward pass has saved its gradients by x, y and the learned values."""

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments of `forward`."""
        by_x, by_y, *by_learned = (upstream * gradient for gradient in ctx.saved_tensors)
        return None, by_x, by_y, None, *by_learned


class SigmoidPairs(_PairSum):
    """-Σij log σ(z_ij l_ij) with l = scale x yᵀ + bias, z = 1 for i = j and -1 elsewhere."""

    @staticmethod
    def forward(
        ctx: Any, size: int, x: Tensor, y: Tensor, image_index: Tensor | None, scale: Tensor, bias: Tensor
    ) -> Tensor:
        """Return the sum for features (B, D) and (B, D), in tiles of `size` rows and columns."""
        pairs = _ScaledPairs(x, y, scale, image_index, size)
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


class SoftmaxPairs(_PairSum):
    """Σi (lse_j l_ij + lse_j l_ji - 2 l_ii) with l = scale x yᵀ: the cross-entropies of both directions, added up."""

    @staticmethod
    def forward(ctx: Any, size: int, x: Tensor, y: Tensor, image_index: Tensor | None, scale: Tensor) -> Tensor:
        """Return the sum for features (B, D) and (B, D), in tiles of `size` rows and columns."""
        pairs = _ScaledPairs(x, y, scale, image_index, size)
        by_row, by_column = (rows.new_full((len(rows),), -torch.inf) for rows in (x, y))
        total = x.new_zeros(())
        for rows, columns in pairs.tiles:
            logits = pairs.logits(rows, columns)
            by_row[rows] = torch.logaddexp(by_row[rows], logits.logsumexp(1))
            by_column[columns] = torch.logaddexp(by_column[columns], logits.logsumexp(0))
            total -= 2 * _diagonal(logits, rows, columns).sum()
        for rows, columns in pairs.tiles:
            logits = pairs.logits(rows, columns)
            slopes = (logits - by_row[rows, None]).exp_()
            slopes += logits.sub_(by_column[None, columns]).exp_()
            _diagonal(slopes, rows, columns).sub_(2)
            pairs.add_slopes(rows, columns, slopes)
        ctx.save_for_backward(*pairs.gradients())
        return total + by_row.sum() + by_column.sum()


class _ScaledPairs:
    """Tiles of scale x yᵀ, and the gradients of a sum over them by x (B, D), y (B, D) and scale."""

    def __init__(self, x: Tensor, y: Tensor, scale: Tensor, image_index: Tensor | None, size: int) -> None:
        self.x, self.y, self.scale = x * scale, y, scale
        self.image_index, self.tiles = image_index, list(tiles(len(x), len(y), size))
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
    return tile.diagonal() if rows.start == columns.start else tile[:0, 0]
