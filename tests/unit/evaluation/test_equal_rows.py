"""Rows that are bit-identical are projected alike, wherever they stand; all others keep what was computed for them."""

import numpy as np
import pytest
import torch

from frozenalign.data.rows import open_rows
from frozenalign.evaluation.projections import map_rows

CPU = torch.device("cpu")


def by_place(rows: torch.Tensor) -> torch.Tensor:
    """A function that rounds differently at each place of a chunk, as a matrix product may."""
    return rows.float() + torch.arange(len(rows))[:, None] * 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 3, 40])
def test_equal_rows_get_what_the_first_of_them_gets(tmp_path, dtype, width):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, width, generator=generator).to(dtype)
    rows[[7, 31, 49]] = rows[3].clone()
    rows[20] = rows[19].clone()
    torch.save(rows, tmp_path / "rows.pt")
    file, chosen = open_rows(tmp_path / "rows.pt"), np.delete(np.arange(50), 5)
    mapped = map_rows(by_place, file, chosen, CPU)
    first = {}
    source = [first.setdefault(row.view(torch.uint8).numpy().tobytes(), i) for i, row in enumerate(rows[chosen])]
    assert torch.equal(mapped, by_place(rows[chosen])[source])


def test_rows_that_only_look_alike_in_some_columns_are_not_taken_for_equal(tmp_path):
    rows = torch.zeros(6, 1000) + 1
    rows[torch.arange(6), torch.arange(6) * 3 + 1] = 2
    torch.save(rows, tmp_path / "rows.pt")
    mapped = map_rows(by_place, open_rows(tmp_path / "rows.pt"), np.arange(6), CPU)
    assert torch.equal(mapped, by_place(rows))
