"""Poolings are held against plain loops in float64, for padding on either side."""

import pytest
import torch

from frozenalign.encoders.pooling import POOLINGS

LENGTHS = (1, 5, 3, 7)


def hidden_and_mask(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = torch.randn(len(LENGTHS), max(LENGTHS), 6, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(hidden.shape[:2], dtype=torch.int64)
    for row, length in enumerate(LENGTHS):
        mask[row, slice(None, length) if side == "right" else slice(-length, None)] = 1
    return hidden, mask


def by_loop(pooling: str, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    rows = []
    for tokens, kept in zip(hidden.double(), mask, strict=True):
        read = [token for token, is_read in zip(tokens, kept.tolist(), strict=True) if is_read]
        rows.append({"cls": tokens[0], "mean": sum(read) / len(read), "last_token": read[-1]}[pooling])
    return torch.stack(rows)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_pooling_equals_a_plain_loop(pooling, side):
    hidden, mask = hidden_and_mask(side)
    torch.testing.assert_close(POOLINGS[pooling](hidden, mask).double(), by_loop(pooling, hidden, mask))


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.float32, torch.bfloat16])
def test_a_mask_may_have_any_type(kind):
    hidden, mask = hidden_and_mask("right")
    for pooling, pool in POOLINGS.items():
        torch.testing.assert_close(pool(hidden, mask.to(kind)), pool(hidden, mask), msg=pooling)


def test_a_mean_of_16_bit_rows_is_taken_in_float32():
    hidden = torch.full((1, 4096, 1), 1.0, dtype=torch.bfloat16)
    hidden[0, 0] = 1.0078125
    mean = POOLINGS["mean"](hidden, torch.ones(1, 4096))
    assert mean.dtype == torch.float32
    assert mean.item() == pytest.approx(1 + 0.0078125 / 4096, abs=1e-7)


def test_the_last_token_is_found_by_the_mask_though_padding_has_its_id():
    # The ids are 5 2 2 2, with 2 both the end and the padding: the first 2 ends the text.
    hidden = torch.arange(4.0).reshape(1, 4, 1)
    assert POOLINGS["last_token"](hidden, torch.tensor([[1, 1, 0, 0]])).item() == 1
