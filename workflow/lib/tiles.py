"""Tiles of a matrix of all pairs, for whatever is computed without holding that matrix."""

from collections.abc import Iterator

import torch

# A float32 tile is 1 MB on a CPU, where it stays in the cache, and 64 MB on a GPU, where it keeps every core busy.
CPU_TILE = 512
DEVICE_TILE = 4096
SMALLEST_TILE = 64


def tile_size(device: torch.device) -> int:
    """Return the rows and columns of a tile on a device."""
    return CPU_TILE if device.type == "cpu" else DEVICE_TILE


def blocks(count: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of `size` that cover `count`; the last may be shorter."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def tiles(rows: int, columns: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield (rows, columns) of every tile of a matrix."""
    for row in blocks(rows, size):
        for column in blocks(columns, size):
            yield row, column
