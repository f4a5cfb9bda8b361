"""Float32 products, whichever library computes them, are held against float64."""

import pytest
import torch

from frozenalign.system.products import add_product, product, reduced_precision

SHAPES = [(1, 1, 1), (3, 7, 5), (64, 512, 512), (512, 512, 64), (100, 33, 257)]


def operands(rows: int, inner: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, inner, generator=generator), torch.randn(inner, columns, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_product_is_that_of_float64(shape):
    x, y = operands(*shape)
    torch.testing.assert_close(product(x, y).double(), x.double() @ y.double(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_transposed_operands_are_taken_as_they_are(shape):
    x, y = operands(*shape)
    torch.testing.assert_close(product(y.T, x.T), product(x, y).T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_added_in_place_to_part_of_a_matrix(shape):
    x, y = operands(*shape)
    total = torch.ones(2 * shape[0], shape[2])
    add_product(total[: shape[0]], x, y)
    torch.testing.assert_close(total[: shape[0]], 1 + x @ y, rtol=1e-5, atol=1e-4)
    assert (total[shape[0] :] == 1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_within_a_block_of_bf16_rows_only_the_factors_are_rounded_to_it(shape):
    x, y = operands(*shape)
    with reduced_precision(x.bfloat16()):
        found = product(x, y)
    # A factor is off by 2⁻⁹ of itself, a product of two by twice that.
    bound = 2**-8 * (x.double().abs() @ y.double().abs())
    assert found.dtype == torch.float32
    assert ((found.double() - x.double() @ y.double()).abs() <= 1.01 * bound).all()


def test_a_cpu_is_asked_for_the_shorter_format_within_a_block_alone():
    before = torch.get_float32_matmul_precision()
    with reduced_precision(torch.zeros(1).bfloat16()):
        assert torch.get_float32_matmul_precision() == "medium" != before
    assert torch.get_float32_matmul_precision() == before


def test_float32_rows_and_what_follows_a_block_are_multiplied_as_ever():
    x, y = operands(64, 512, 512)
    with reduced_precision(x):
        within = product(x, y)
    with pytest.raises(RuntimeError, match="broken"), reduced_precision(x.bfloat16()):
        raise RuntimeError("broken")
    assert torch.equal(product(x, y), within)
    torch.testing.assert_close(within.double(), x.double() @ y.double(), rtol=1e-5, atol=1e-4)
