"""Copies of images: the same ones are found as by a plain comparison of all rows."""

import pytest
import torch

from frozenalign.data.copies import copy_counts


def plain_counts(queries: torch.Tensor, gallery: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Compare every two rows in float64: a copy is at most sqrt(2 (1 - 0.999)) of the query's length away.

    Of fewer than 16 dimensions, at most a thousandth.
    """
    queries, gallery = queries.double() - mean.double(), gallery.double() - mean.double()
    near = 0.002**0.5 if len(mean) >= 16 else 0.001
    return (torch.cdist(queries, gallery) <= near * queries.norm(dim=1, keepdim=True)).sum(1)


@pytest.mark.parametrize("dim", [3, 60, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_counts_are_those_of_a_plain_comparison(dim, dtype):
    generator = torch.Generator().manual_seed(dim)
    gallery = torch.randn(200, dim, generator=generator) + 5
    mean = gallery.mean(0)
    noise = torch.randn(60, dim, generator=generator) * torch.tensor([0.0, 0.0001, 0.03, 0.06]).repeat(15)[:, None]
    queries = (gallery[:60] + noise).to(dtype)
    gallery = torch.cat([gallery, gallery[:20]]).to(dtype)
    found = copy_counts(queries, gallery.split(37), mean)
    assert torch.equal(found, plain_counts(queries, gallery, mean))
    assert {0, 1, 2} <= set(found.tolist())


def test_unrelated_images_of_two_dimensions_are_no_copies():
    rows = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    assert (copy_counts(rows[:40], rows.split(256), rows.mean(0)) > 1).sum() == 0


def test_rows_far_from_the_origin_are_no_copies_of_each_other():
    rows = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) + 1000
    assert torch.nn.functional.cosine_similarity(rows[0], rows[1], dim=0) > 0.999
    assert copy_counts(rows, rows.split(8), rows.mean(0)).tolist() == [1] * 50
