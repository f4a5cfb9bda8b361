"""Copies of one image under several ids, which leak training images into a test set and tie within it."""

from collections.abc import Iterable

import torch
from torch import Tensor

from frozenalign.system.products import blocks, product

# Squared distance of two copies, in squared lengths: a cosine of 0.999 between rows of one length. In few dimensions
# other images are as near as that, and only rows that differ by the rounding of float16 count as copies.
NEAR, NEAR_IN_FEW = 2 * (1 - 0.999), 1e-6
FEW_DIMENSIONS = 16
FILTER_DIM = 32
# What may be a copy by its projections: float32 rounds squared distances by a millionth of a squared length.
FILTER_FACTOR, FILTER_ROUNDING = 1.1, 1e-6
# So many queries, with the gallery rows of a chunk, give a tile of distances that stays in the cache.
QUERIES_AT_ONCE = 512


def copy_counts(queries: Tensor, gallery: Iterable[Tensor], centre: Tensor) -> Tensor:
    """Return how many gallery rows are copies of each query (Q, D), (Q,).

    A copy is the same embedding, or one that differs by rounding: at most 4.5 % of the query's length away, both
    measured from the centre (D,) of all images. gallery: chunks of rows (b, D) of any floating type.

    Comparing projections on a few random directions first excludes most rows at a small part of the cost. It excludes
    no copy, because a projection shortens distances.
    """
    queries = queries.float() - centre
    near = NEAR if len(centre) >= FEW_DIMENSIONS else NEAR_IN_FEW
    random = torch.randn(len(centre), min(len(centre), FILTER_DIM), generator=torch.Generator().manual_seed(0))
    directions = torch.linalg.qr(random)[0]
    lengths, parts = queries.square().sum(1), list(blocks(len(queries), QUERIES_AT_ONCE))
    narrow = _with_limits(queries @ directions, (FILTER_FACTOR * near + FILTER_ROUNDING) * lengths)
    counts = torch.zeros(len(queries), dtype=torch.long)
    for chunk in gallery:
        rows = chunk.float() - centre
        projected = _with_squares(rows @ directions)
        for part in parts:
            beyond = product(projected, narrow[part].T)
            if float(beyond.min()) > 0:
                continue
            possible = beyond <= 0
            some, asked = possible.any(1), possible.any(0).nonzero().flatten() + part.start
            counts[asked] += (_squared_distances(rows[some], queries[asked]) <= near * lengths[asked]).sum(0)
    return counts


def _with_squares(rows: Tensor) -> Tensor:
    """Return rows (b, D) followed by their squared lengths and ones, (b, D + 2)."""
    return torch.cat([rows, rows.square().sum(1, keepdim=True), torch.ones(len(rows), 1)], 1)


def _with_limits(queries: Tensor, limits: Tensor) -> Tensor:
    """Return (Q, D + 2) whose products with `_with_squares` are squared distances minus limits (Q,)."""
    rest = queries.square().sum(1) - limits
    return torch.cat([-2 * queries, torch.ones(len(queries), 1), rest[:, None]], 1)


def _squared_distances(rows: Tensor, queries: Tensor) -> Tensor:
    """Return the squared distances of rows (b, D) from queries (Q, D), (b, Q)."""
    products = product(rows, queries.T)
    return products.mul_(-2).add_(rows.square().sum(1)[:, None]).add_(queries.square().sum(1))
