"""A linear layer maps as nn.Linear does, and its way back on a CPU with AMX finds the same gradients."""

import pytest
import torch
from torch import Tensor, nn

from frozenalign.models import linear
from frozenalign.models.linear import Linear


def both(inputs: int, outputs: int) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    own, plain = Linear(inputs, outputs), nn.Linear(inputs, outputs)
    plain.load_state_dict(own.state_dict())
    return own, plain


def mapped(layer: nn.Module, x: Tensor, format: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """Return the output of a layer, and the gradients of its squares by x, weight and bias."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=format == torch.bfloat16):
        output = layer(x)
    output.float().square().sum().backward()
    return [output.detach(), x.grad, layer.weight.grad, layer.bias.grad]


@pytest.fixture(params=[True, False], ids=["AMX", "no AMX"])
def amx(request, monkeypatch) -> bool:
    monkeypatch.setattr(linear, "has_amx", lambda: request.param)
    return request.param


@pytest.mark.parametrize("shape", [(1,), (64,), (5, 3)], ids=str)
@pytest.mark.parametrize("format", [torch.bfloat16, torch.float32], ids=str)
def test_outputs_and_gradients_are_those_of_the_plain_layer(shape, format, amx):
    own, plain = both(48, 20)
    x = torch.randn(*shape, 48).to(format)
    found, expected = (mapped(layer, x, format) for layer in (own, plain))
    assert torch.equal(found[0], expected[0])
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() <= 2**-8 * other.norm()


def test_with_amx_the_weights_get_their_gradient_by_the_layers_own_way_back(monkeypatch):
    monkeypatch.setattr(linear, "has_amx", lambda: True)
    own, _ = both(8, 4)
    x = torch.randn(6, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "_Linear" in type(own(x).grad_fn).__name__
        with torch.no_grad():
            assert own(x).grad_fn is None
    assert "_Linear" not in type(own(x).grad_fn).__name__


def test_rows_without_a_gradient_get_none(amx):
    own, _ = both(8, 4)
    x = torch.randn(6, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        own(x).float().sum().backward()
    assert x.grad is None
    assert own.weight.grad.isfinite().all()
