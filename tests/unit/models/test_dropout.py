"""Dropout drops the asked share, keeps the mean, and is PyTorch's own in all but its random numbers."""

import pytest
import torch

from frozenalign.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_the_asked_share_is_dropped_and_the_rest_scaled_up(p):
    torch.manual_seed(0)
    x = torch.ones(1000, 1001)
    y = Dropout(p)(x)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.002)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)), rtol=1e-4, atol=0)


def test_rows_and_columns_are_dropped_independently():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(4000, 64)) != 0).float()
    correlations = torch.corrcoef(kept.T) - torch.eye(64)
    assert correlations.abs().max() < 0.08


def test_nothing_is_dropped_in_evaluation_or_at_zero():
    x = torch.randn(7, 5)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_gradients_flow_where_values_did():
    torch.manual_seed(0)
    x = torch.randn(50, 3, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert torch.equal(x.grad != 0, y != 0)


def test_the_seed_decides_and_bfloat16_stays_bfloat16():
    x = torch.randn(9, 5, dtype=torch.bfloat16)
    first, again = ((torch.manual_seed(1), Dropout(0.5)(x))[1] for _ in range(2))
    assert torch.equal(first, again)
    assert first.dtype == torch.bfloat16
