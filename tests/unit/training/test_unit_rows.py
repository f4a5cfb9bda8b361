"""Rows of length one, held against PyTorch's own derivative."""

import pytest
import torch

from frozenalign.models.dual_encoder import unit
from frozenalign.training.unit_rows import unit_rows


@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_they_are_the_rows_that_a_model_returns(number):
    rows = torch.randn(40, 16).to(number)
    assert torch.equal(unit_rows(rows), unit(rows))


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e6])
def test_their_gradients_are_those_of_the_plain_formula_in_float64(length):
    rows = (length * torch.randn(40, 16)).requires_grad_()
    exact = rows.detach().double().requires_grad_()
    gradient = torch.randn(40, 16)
    unit_rows(rows).backward(gradient)
    (exact / exact.norm(dim=1, keepdim=True)).backward(gradient.double())
    torch.testing.assert_close(rows.grad, exact.grad.float(), rtol=1e-5, atol=1e-6 / length)


def test_gradients_have_the_format_of_the_rows():
    rows = torch.randn(40, 16).bfloat16().requires_grad_()
    unit_rows(rows).sum().backward()
    assert rows.grad.dtype == torch.bfloat16


def test_a_row_of_zeros_has_a_finite_gradient():
    rows = torch.zeros(2, 16, requires_grad=True)
    unit_rows(rows).sum().backward()
    assert rows.grad.isfinite().all()
