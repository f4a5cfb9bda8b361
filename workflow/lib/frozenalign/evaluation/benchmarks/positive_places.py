"""Where the positives of queries rank, exactly, when a query has several."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frozenalign.evaluation.tiles import padded
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import SMALLEST_TILE, blocks, product, tile_size

# Scores that are held at once, beside the tile that is computed.
SCORES = 1 << 22
query_tiles = FittingSize("queries whose positives are ranked", SMALLEST_TILE, "set `device: cpu`")


@dataclass(frozen=True)
class Places:
    """The 0-based places of P positives: query (P,) ascending, place (P,) ascending within each query.

    positives: (Q,) the number of positives of each query, which may be more than are among the candidates; owner: (Q,)
    the image that query q belongs to. candidates: how many there are.
    """

    query: np.ndarray
    place: np.ndarray
    positives: np.ndarray
    owner: np.ndarray
    candidates: int


@torch.no_grad()
def positive_places(queries: Tensor, gallery: Tensor, query: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return the place of each positive, (P,), in the order of `query`, ascending within each query.

    Row item[p] (P,) of the gallery (G, D) is a positive of row query[p] of the queries (Q, D); query is ascending. A
    candidate that is no positive and ties with one ranks above it.
    """
    size = max(SMALLEST_TILE, min(tile_size(queries.device), SCORES // max(1, len(gallery))))
    return query_tiles.run(_places, size, queries.device, queries, gallery, query, item)


def _places(size: int, queries: Tensor, gallery: Tensor, query: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return the places, from the scores of `size` queries at a time."""
    asked, row = np.unique(query, return_inverse=True)
    found = [np.empty(0, dtype=np.int64)]
    for rows in blocks(len(asked), size):
        here = slice(*np.searchsorted(row, [rows.start, rows.stop]))
        scores = _scores(queries[torch.from_numpy(asked[rows]).to(queries.device)], gallery, size)
        own = torch.from_numpy(row[here] - rows.start).to(scores.device)
        found.append(_places_in(scores, own, torch.from_numpy(item[here]).to(scores.device)).cpu().numpy())
    return np.concatenate(found)


def _scores(queries: Tensor, gallery: Tensor, size: int) -> Tensor:
    """Return the scores (n, G) of up to `size` queries, from tiles of one shape, which round equal rows alike."""
    rows = padded(queries, size)
    parts = [
        product(rows, padded(gallery[part], size).T)[:, : part.stop - part.start] for part in blocks(len(gallery), size)
    ]
    return torch.cat(parts, dim=1)[: len(queries)]


def _places_in(scores: Tensor, row: Tensor, item: Tensor) -> Tensor:
    """Return the places (p,) of the positives item[p] of the rows row[p], ascending, of the scores (n, G)."""
    counts = torch.bincount(row, minlength=len(scores))
    most = int(counts.max())
    filled = torch.arange(most, device=row.device) < counts[:, None]
    own = torch.full(filled.shape, torch.inf, device=scores.device)
    own[filled] = scores[row, item]
    # Ascending, (n, most); the infinite ones that fill a row up come last.
    own = own.sort(dim=1).values
    # How many positives a candidate reaches; then, of each positive, how many candidates and positives reach it.
    reached = torch.searchsorted(own, scores.contiguous(), right=True)
    bins = reached + torch.arange(len(scores), device=row.device)[:, None] * (most + 1)
    histogram = torch.bincount(bins.flatten(), minlength=len(scores) * (most + 1)).view(len(scores), most + 1)
    reaching = histogram.flip(1).cumsum(1).flip(1)[:, 1:]
    own_reaching = counts[:, None] - torch.searchsorted(own, own)
    # The best positive of a row has none above it, and stands last among its own.
    better = counts[:, None] - 1 - torch.arange(most, device=row.device)
    places = reaching - own_reaching + better
    return torch.cat([places[at, : int(count)].flip(0) for at, count in enumerate(counts) if count])
