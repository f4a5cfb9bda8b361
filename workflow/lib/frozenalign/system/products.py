"""Float32 matrix products for what is computed tile by tile, at the processor's own speed.

PyTorch hands float32 products to MKL, which keeps to AVX2 on processors that are not Intel's; oneDNN, which PyTorch
brings as well, uses AVX-512 on all that have it and is twice as fast there. Nothing here builds a graph.
"""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

# A float32 tile is 1 MB on a CPU, where it stays in the cache, and 64 MB on a GPU, where it keeps every core busy.
CPU_TILE = 512
DEVICE_TILE = 4096
SMALLEST_TILE = 64


def product(x: Tensor, y: Tensor) -> Tensor:
    """Return x y, (N, M), of float32 (N, K) and (K, M)."""
    if _by_onednn(x.device.type):
        return torch.ops.mkldnn._linear_pointwise(x, y.T, None, "none", [], "")
    return x @ y


def add_product(total: Tensor, x: Tensor, y: Tensor) -> None:
    """Add x y of float32 (N, K) and (K, M) to total (N, M) in place."""
    if _by_onednn(x.device.type):
        total.add_(product(x, y))
    else:
        total.addmm_(x, y)


@functools.cache
def _by_onednn(device: str) -> bool:
    """Say whether oneDNN takes the products of a device; its operator is the one that PyTorch's compiler calls."""
    return (
        device == "cpu"
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


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
