"""Losses of 32,768 pairs, forward and backward: the tiled sums against the plain (B, B) matrix."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.losses.registry import build_loss
from frozenalign.system.devices import choose_device
from tests.benchmarks.measurement import OURS, REFERENCE, Row, interleaved, timed_memory

WIDTH = 512


def measure(quick: bool = False) -> list[Row]:
    """Time both losses at a size that the plain form can hold, and measure the memory of ours at the full size."""
    device = choose_device("auto")
    compared, full = (256, 512) if quick else (8192, 32768)
    rows = []
    for name, plain in (("siglip", plain_sigmoid), ("clip", plain_softmax)):
        loss = build_loss({"type": name}, compared).to(device)
        x, y = features(compared, device)
        cases = {
            REFERENCE: gradient_of(lambda x, y, form=plain: form(x, y), x, y),
            OURS: gradient_of(loss_of(loss), x, y),
        }
        medians = interleaved(1 if quick else 3, **cases)
        rows.append(Row(f"{name}, batch {compared}, {device.type}", medians[OURS], medians[REFERENCE]))
        x, y = features(full, device)
        seconds, extra = timed_memory(gradient_of(loss_of(loss), x, y))
        plain_bytes = 3 * 4 * full**2
        note = f"the plain form holds some {plain_bytes / 1e9:.0f} GB"
        rows.append(Row(f"{name}, batch {full}, {device.type}", seconds, extra_bytes=extra, note=note))
    return rows


def features(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return random unit vectors (count, 512) of two modalities that need gradients."""
    generator = torch.Generator().manual_seed(0)
    x, y = (functional.normalize(torch.randn(count, WIDTH, generator=generator), dim=1) for _ in range(2))
    return x.to(device).requires_grad_(), y.to(device).requires_grad_()


def loss_of(loss: torch.nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss as a function of features, every pair of an image of its own."""
    return lambda x, y: loss(x, y, torch.arange(len(x), device=x.device))


def gradient_of(form: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Callable[[], None]:
    """Return a call that computes a loss and its gradients by x and y."""

    def call() -> None:
        torch.autograd.grad(form(x, y), (x, y))
        if x.device.type == "cuda":
            torch.cuda.synchronize()

    return call


def plain_sigmoid(x: Tensor, y: Tensor, scale: float = 10.0, bias: float = -10.0) -> Tensor:
    """Return the sigmoid loss as its paper writes it."""
    signs = 2 * torch.eye(len(x), device=x.device) - 1
    return -functional.logsigmoid(signs * (scale * x @ y.T + bias)).sum() / len(x)


def plain_softmax(x: Tensor, y: Tensor, scale: float = 1 / 0.07) -> Tensor:
    """Return the symmetric softmax loss as its paper writes it."""
    logits, labels = scale * x @ y.T, torch.arange(len(x), device=x.device)
    return (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2
