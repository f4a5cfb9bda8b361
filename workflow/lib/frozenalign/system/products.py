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
# PyTorch's name of products whose factors are rounded to bf16.
IN_BF16 = "medium"


def product(x: Tensor, y: Tensor) -> Tensor:
    """Return x y, (N, M), of float32 (N, K) and (K, M), or of what `factor` returns for them."""
    if _by_onednn(x.device.type):
        return torch.ops.mkldnn._linear_pointwise(x, y.T, None, "none", [], "")
    if _shortened_on_gpu(x.device):
        return torch.mm(factor(x), factor(y), out_dtype=torch.float32)
    return x @ y


def add_product(total: Tensor, x: Tensor, y: Tensor) -> None:
    """Add x y of float32 (N, K) and (K, M), or of what `factor` returns for them, to total (N, M) in place."""
    # What PyTorch itself multiplies by oneDNN, in bf16, it adds there as well, and copies no x that is transposed.
    onednn = _by_onednn(x.device.type) and torch.get_float32_matmul_precision() != IN_BF16
    if onednn or _shortened_on_gpu(x.device):
        total.add_(product(x, y))
    else:
        total.addmm_(x, y)


def factor(x: Tensor) -> Tensor:
    """Return a float32 matrix in the format that `product` multiplies, so that one used twice is rounded only once."""
    return x.bfloat16() if _shortened_on_gpu(x.device) else x


@contextlib.contextmanager
def reduced_precision(rows: Tensor) -> Iterator[None]:
    """Let factors of float32 products be rounded to bf16 within a block, if its rows (N, D) are in bf16.

    Sums and results stay in float32. Factors keep 7 bits of fraction, as the towers have given the rows. An NVIDIA GPU
    does so in `product`, and takes TF32 elsewhere, as other GPUs do everywhere; a CPU with AMX does so everywhere: 3.7
    times as fast, and the loss was a third of a step of 4,096 pairs. Other CPUs take float32.
    """
    before = torch.get_float32_matmul_precision()
    if rows.dtype == torch.bfloat16 and rows.device.type in ("cpu", "cuda"):
        torch.set_float32_matmul_precision(IN_BF16)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def has_amx() -> bool:
    """Return whether the CPU multiplies tiles of bf16, many times as fast as anything else."""
    return torch.cpu.get_capabilities().get("amx_bf16", False)


@functools.cache
def _by_onednn(device: str) -> bool:
    """Return whether oneDNN, through the operator that PyTorch's compiler calls, computes the products of a device."""
    return (
        device == "cpu"
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _shortened_on_gpu(device: torch.device) -> bool:
    """Return whether factors are rounded here: PyTorch multiplies float32 in TF32 at best, half as fast as bf16."""
    asked = device.type == "cuda" and torch.get_float32_matmul_precision() == IN_BF16
    return asked and torch.version.hip is None


def tile_size(device: torch.device) -> int:
    """Return the rows and columns of a tile on a device."""
    return {"cpu": CPU_TILE, "cuda": CUDA_TILE}.get(device.type, OTHER_TILE)


def blocks(count: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of `size` that cover `count`; the last may be shorter."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
