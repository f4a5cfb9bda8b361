"""Sums over all pairs of anchors (b, D) and keys, with their gradients by the anchors: no matrix of all pairs exists.

Keys are constants. They come in sources, each with keys (K, D) and their image indices (K,): a batch's, a queue's.

What a logit contributes depends on the sum of its row over all keys. So a block of anchors holds the exponentials of
its logits with all keys, from the pass that makes and sums them to the pass that turns them into slopes: a logit is
computed once. Both passes go tile by tile, so that their work stays in the cache. Memory grows with the keys, by `size`
numbers for each.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from frozenalign.system.products import add_product, blocks, product

Source = tuple[Tensor, Tensor]


def contrast_sum(
    size: int, scale: Tensor, matches: Tensor, images: Tensor, sources: Sequence[Source], x: Tensor
) -> tuple[Tensor, Tensor]:
    """Return Σi (log(exp m_i + Σj exp l_ij) - m_i) and its gradient by x, in blocks of `size` anchors and keys.

    m_i = scale x_i · match_i and l = scale x keysᵀ; keys of the anchor's own image are left out of the sum. matches,
    images: of the anchors, (b, D) and (b,).
    """
    columns = _columns(sources, size)
    total, gradient = x.new_zeros(()), torch.zeros_like(x)
    for rows in blocks(len(x), size):
        queries = x[rows] * scale
        own = (queries * matches[rows]).sum(1, keepdim=True)
        softmax = _Softmax()
        for keys, their_images in columns:
            softmax.add(product(queries, keys.T).masked_fill_(images[rows, None] == their_images, -torch.inf))
        own -= softmax.close()
        log_sums = torch.logaddexp(softmax.log_sums(), own)
        total += (log_sums - own).sum()
        gradient[rows] = matches[rows] * (own - log_sums).expm1()
        for chances, (keys, _) in zip(softmax.over(log_sums), columns, strict=True):
            add_product(gradient[rows], chances, keys)
    return total, gradient.mul_(scale)


def soft_target_sum(
    size: int, copies: Tensor, images: Tensor, alpha: Tensor, sources: Sequence[Source], x: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return -Σij t_ij log softmax_j(l_ij) and its gradients by x and scale, in blocks of `size` keys.

    l = scale x keysᵀ and t = α softmax_j(scale copies keysᵀ) + (1 - α) T, where T spreads each row evenly over the keys
    of the anchor's own image; t counts as constant. copies, images: of the anchors, (b, D) and (b,), which are among
    the keys' images. alpha: α, a tensor of one number.
    """
    columns = _columns(sources, size)
    hard = (1 - alpha) / _counts(images, torch.cat([each for _, each in sources]))[:, None]
    nothing = torch.zeros_like(alpha)
    total, gradient = x.new_zeros(()), torch.zeros_like(x)
    # Each anchor has two rows of logits: its own, and those of the momentum copy.
    for rows in blocks(len(x), size // 2):
        queries = torch.cat([x[rows], copies[rows]]) * scale
        softmax = _Softmax(averaged=len(x[rows]))
        for keys, _ in columns:
            softmax.add(product(queries, keys.T))
        softmax.close()
        log_sums, soft_sums = softmax.log_sums().chunk(2)
        divisors = torch.cat([log_sums, soft_sums - alpha.log()])
        for chances, (keys, their_images) in zip(softmax.over(divisors), columns, strict=True):
            slopes, soft = chances.chunk(2)
            same = images[rows, None] == their_images
            slopes.sub_(soft).sub_(torch.where(same, hard[rows], nothing))
            add_product(gradient[rows], slopes, keys)
        # Σj t l is that of softmax(l) less that of the slopes, whose sum with the keys is the gradient.
        total += (log_sums - softmax.mean(log_sums)).sum() + (gradient[rows] * x[rows]).sum() * scale
    by_scale = (gradient * x).sum()
    return total, gradient.mul_(scale), by_scale


class _Softmax:
    """The softmax of rows of logits (q, K) that come in tiles (q, c), in any order.

    Of each tile, the exponentials of the logits less the largest of their row are held, until `over` makes chances of
    them. averaged: of how many rows, the first ones, `mean` is asked.
    """

    def __init__(self, averaged: int = 0) -> None:
        self.averaged = averaged
        self.tiles: list[Tensor] = []
        self.tops: list[Tensor] = []
        self.sums: list[Tensor] = []
        self.moments: list[Tensor] = []

    def add(self, logits: Tensor) -> None:
        """Take a tile of logits, some of which may be minus infinity, and its memory."""
        # Finite, so that a row of minus infinities has exponentials of zero.
        top = logits.amax(1, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min)
        tile = logits.sub_(top).exp()
        moments = logits[: self.averaged].mul_(tile[: self.averaged])
        self.tiles.append(tile)
        self.tops.append(top)
        self.sums.append(tile.sum(1, keepdim=True))
        self.moments.append(moments.sum(1, keepdim=True))

    def close(self) -> Tensor:
        """Return the largest logit of each row, (q, 1), from which all others count after the last tile.

        Logits of a thousand, at the lowest temperatures, would leave their logarithms few digits.
        """
        tops = torch.stack(self.tops)
        largest = tops.amax(0)
        self.tops = list(tops - largest)
        return largest

    def log_sums(self) -> Tensor:
        """Return log Σ exp of each row, (q, 1)."""
        return (torch.stack(self.tops) + torch.stack(self.sums).log()).logsumexp(0)

    def mean(self, log_sums: Tensor) -> Tensor:
        """Return the mean logit of each of the first rows under its softmax, (averaged, 1), given their `log_sums`."""
        tops, sums = (torch.stack(each)[:, : self.averaged] for each in (self.tops, self.sums))
        return ((tops - log_sums).exp() * (torch.stack(self.moments) + tops * sums)).sum(0)

    def over(self, log_sums: Tensor) -> Iterator[Tensor]:
        """Yield exp(logits - log_sums) of each tile, given a number for each row, (q, 1)."""
        for tile, top in zip(self.tiles, self.tops, strict=True):
            yield tile.mul_((top - log_sums).exp())


def _columns(sources: Sequence[Source], size: int) -> list[Source]:
    """Return the sources in blocks of at most `size` keys."""
    return [(keys[part], images[part]) for keys, images in sources for part in blocks(len(keys), size)]


def _counts(images: Tensor, among: Tensor) -> Tensor:
    """Return how often each of images (b,) is among others (K,)."""
    ordered = among.sort().values
    return torch.searchsorted(ordered, images, right=True) - torch.searchsorted(ordered, images)
