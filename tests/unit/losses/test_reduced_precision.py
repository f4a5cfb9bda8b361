"""Losses whose products are multiplied in a shorter format, as they are where training is in bf16."""

import pytest
import torch
from torch import Tensor

from frozenalign.losses.registry import LOSSES
from frozenalign.models.dual_encoder import unit
from frozenalign.system.products import reduced_precision

PAIRS, WIDTH = 600, 64
IN_BATCH = ("siglip", "clip", "infonce", "align")


def features() -> tuple[Tensor, Tensor]:
    """Return unit rows whose matches are similar, as bf16 towers return them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(PAIRS, WIDTH, generator=generator)
    texts = images + 0.7 * torch.randn(PAIRS, WIDTH, generator=generator)
    return unit(images.bfloat16()), unit(texts.bfloat16())


def value_and_gradients(name: str, rows: Tensor) -> tuple[float, list[Tensor]]:
    """Return a loss and its gradients by features and parameters, computed for rows of a format."""
    loss = LOSSES[name](temperature=0.06)
    x, y = (each.requires_grad_() for each in features())
    with reduced_precision(rows):
        value = loss(x, y, torch.arange(PAIRS))
        value.backward()
    return value.item(), [each.grad for each in (x, y, *loss.parameters())]


@pytest.mark.parametrize("name", IN_BATCH)
def test_value_and_gradients_stay_those_of_float32_up_to_the_rounding(name):
    value, gradients = value_and_gradients(name, torch.zeros(1))
    shorter, their_gradients = value_and_gradients(name, torch.zeros(1).bfloat16())
    assert shorter == pytest.approx(value, rel=1e-3)
    for exact, rounded in zip(gradients, their_gradients, strict=True):
        assert (rounded - exact).norm() <= 0.01 * exact.norm()
