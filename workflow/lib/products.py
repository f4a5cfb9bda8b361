"""Float32 matrix products for what is computed tile by tile, at the processor's own speed.

PyTorch hands float32 products to MKL, which keeps to AVX2 on processors that are not Intel's; oneDNN, which PyTorch
brings as well, uses AVX-512 on all that have it and is twice as fast there. Nothing here builds a graph.
"""

import functools

import torch
from torch import Tensor


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
