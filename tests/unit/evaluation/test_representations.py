"""The similarity of two encoders before training: against plain loops, and where the answer is known."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from frozenalign.data.pairs import PairFiles
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.representations import debiased_cka, mutual_neighbours, representation_similarity
from frozenalign.system.errors import UserError
from tests.conftest import write_set


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def unbiased_hsic(first: np.ndarray, second: np.ndarray) -> float:
    """Average over all four different items what HSIC is of them: the definition that Song et al. estimate."""
    k, m = first @ first.T, second @ second.T
    fours = list(itertools.permutations(range(len(k)), 4))
    return sum(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in fours) / len(fours)


def test_cka_is_made_of_averages_over_all_four_different_items(generator):
    first, second = normal(generator, 8, 3) + 5.0, normal(generator, 8, 4)
    second[:, :2] += first[:, :2]
    one, two = first.numpy(), second.numpy()
    wanted = unbiased_hsic(one, two) / (unbiased_hsic(one, one) * unbiased_hsic(two, two)) ** 0.5
    assert debiased_cka(first, second) == pytest.approx(wanted, rel=1e-9)


def test_cka_ignores_rotation_scale_and_shift(generator):
    rows = normal(generator, 40, 6)
    rotation = torch.linalg.qr(normal(generator, 6, 6)).Q
    assert debiased_cka(rows, 3.0 * rows @ rotation + 7.0) == pytest.approx(1.0)


def test_cka_of_unrelated_rows_is_about_0_however_wide_they_are(generator):
    found = [debiased_cka(normal(generator, 60, width), normal(generator, 60, 300)) for width in (4, 60, 600)]
    assert max(map(abs, found)) < 0.08
    # The estimate with biased terms, beside it, is near 1 for the widest.
    rows = [normal(generator, 60, 600), normal(generator, 60, 300)]
    first, second = ((each - each.mean(0)) @ (each - each.mean(0)).T for each in rows)
    assert (first * second).sum() / (first.norm() * second.norm()) > 0.7


def test_cka_of_an_encoder_that_does_not_vary_is_none(generator):
    assert debiased_cka(torch.ones(9, 3, dtype=torch.float64), normal(generator, 9, 3)) is None


def nearest(rows: np.ndarray, item: int, k: int) -> set[int]:
    cosines = [rows[item] @ each / np.linalg.norm(rows[item]) / np.linalg.norm(each) for each in rows]
    return set(sorted((other for other in range(len(rows)) if other != item), key=lambda other: -cosines[other])[:k])


@pytest.mark.parametrize("k", [1, 4, 10])
def test_neighbours_in_common_are_counted(generator, k):
    first, second = normal(generator, 300, 5), normal(generator, 300, 8)
    second[:, :5] += 2 * first
    both = [rows.numpy() for rows in (first, second)]
    shared = [len(nearest(both[0], item, k) & nearest(both[1], item, k)) / k for item in range(300)]
    assert mutual_neighbours(first, second, k) == pytest.approx(np.mean(shared))
    assert mutual_neighbours(first, 3 * first, k) == pytest.approx(1.0)


def test_unrelated_rows_share_neighbours_by_chance(generator):
    found = mutual_neighbours(normal(generator, 500, 20), normal(generator, 500, 20), 10)
    assert found == pytest.approx(10 / 499, abs=0.005)


def test_equal_rows_share_the_places_that_are_left_as_on_average_over_all_orders(generator):
    first, second = normal(generator, 12, 4), normal(generator, 4, 4)[torch.arange(12) // 3]
    k, orders, random = 4, 4000, np.random.default_rng(0)
    unit = second / second.norm(dim=1, keepdim=True)
    cosines = (unit @ unit.T).numpy().round(9)
    np.fill_diagonal(cosines, -np.inf)
    wanted = np.array([[other in nearest(first.numpy(), item, k) for other in range(12)] for item in range(12)])
    shared = 0.0
    for _ in range(orders):
        order = random.permutation(12)
        chosen = order[np.argsort(-cosines[:, order], axis=1, kind="stable")[:, :k]]
        shared += np.take_along_axis(wanted, chosen, axis=1).sum() / (12 * k)
    assert mutual_neighbours(first, second, k) == pytest.approx(shared / orders, abs=0.005)


@pytest.fixture
def captioned(tmp_path) -> PairFiles:
    """Six images with two captions each, in a file of captions whose order mixes them; image i is not in the split."""
    images, texts = torch.eye(6)[:, :5] + 0.1, torch.eye(12)
    ids = [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0]
    write_set(tmp_path, images, texts, {"image_ids": ids})
    index = SplitIndex(
        np.array([0, 1, 2, 4, 5]), np.array([0, 1, 2, 4, 5, 6, 7, 9, 10, 11]), np.array([0, 1, 2, 3, 4, 4, 3, 2, 1, 0])
    )
    index.save(tmp_path / "train.npz")
    return PairFiles.open(
        *(tmp_path / f"train2017_{kind}_embeddings.pt" for kind in ("image", "text")), tmp_path / "train.npz"
    )


def test_each_image_of_a_split_is_compared_with_its_first_caption(captioned):
    found = representation_similarity(captioned, k=2)
    rows = [captioned.image_file.take(captioned.split.image_rows), torch.eye(12)[[0, 1, 2, 4, 5]]]
    images, texts = (each.double() for each in rows)
    assert (found.images, found.neighbours, found.chance) == (5, 2, 0.5)
    assert found.cka == pytest.approx(debiased_cka(images, texts))
    assert found.mutual_neighbours == pytest.approx(mutual_neighbours(images, texts, 2))


def test_fewer_images_than_a_split_has_are_spread_evenly_over_it(tmp_path, generator):
    """Ten subjects one after the other: a block of neighbours would hold one of them."""
    subjects = torch.randn(10, 8, generator=generator).repeat_interleave(40, 0)
    images, texts = subjects + 0.1 * torch.randn(400, 8, generator=generator), subjects.clone()
    write_set(tmp_path, images, texts, {"image_ids": list(range(400))})
    SplitIndex(np.arange(400), np.arange(400), np.arange(400)).save(tmp_path / "train.npz")
    names = [tmp_path / f"train2017_{kind}_embeddings.pt" for kind in ("image", "text")]
    found = representation_similarity(PairFiles.open(*names, tmp_path / "train.npz"), images=10, k=3)
    chosen = np.linspace(0, 399, 10).astype(int)
    assert found.images == 10
    assert found.cka == pytest.approx(debiased_cka(images[chosen].double(), texts[chosen].double()))


def test_too_few_images_are_one_sentence(captioned):
    with pytest.raises(UserError, match="3 images are too few to compare encoders"):
        representation_similarity(captioned, images=3)
