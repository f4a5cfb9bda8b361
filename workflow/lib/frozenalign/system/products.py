"""Float32 matrix products, tile by tile, without gradients.

PyTorch computes float32 products with MKL, which uses only AVX2 on processors that are not Intel's. oneDNN, part of
PyTorch as well, uses AVX-512 on every processor that has it and is twice as fast there.
"""

import contextlib
import functools
from collections.abc import Iterator

import torch
from torch import Tensor

# A float32 tile of 1 MB fits the cache of a CPU; one of 268 MB keeps every core of a large GPU busy, one of 64 MB those
# of others.
CPU_TILE, CUDA_TILE, OTHER_TILE = 512, 8192, 4096
SMALLEST_TILE = 64
# PyTorch's names of TF32 on a GPU, and of bf16 on a CPU that multiplies it into float32.
SHORTER_PRODUCTS = {"cuda": "high", "cpu": "medium"}


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


@contextlib.contextmanager
def reduced_precision(rows: Tensor) -> Iterator[None]:
    """Let float32 products be multiplied in a shorter format within a block, if its rows (N, D) are in bf16.

    Sums and results stay in float32. A GPU takes TF32, whose fraction has 10 bits: on an H200 such products are eight
    times as fast, and those of the loss were half of a step of 4,096 pairs. A CPU with AMX takes bf16, with 7 bits as
    the towers have given the rows: 3.7 times as fast, and the loss was a third of that step. Other CPUs take float32.
    """
    before = torch.get_float32_matmul_precision()
    if rows.dtype == torch.bfloat16 and (shorter := SHORTER_PRODUCTS.get(rows.device.type)):
        torch.set_float32_matmul_precision(shorter)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def _by_onednn(device: str) -> bool:
    """Return whether oneDNN, through the operator that PyTorch's compiler calls, computes the products of a device."""
    return (
        device == "cpu"
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def tile_size(device: torch.device) -> int:
    """Return the rows and columns of a tile on a device."""
    return {"cpu": CPU_TILE, "cuda": CUDA_TILE}.get(device.type, OTHER_TILE)


def blocks(count: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of `size` that cover `count`; the last may be shorter."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
