"""The nearest candidates are those of a full product in float64, with penalties subtracted from every score."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from frozenalign.serving.candidates import Candidates

ROWS, WIDTH = 500, 16


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return functional.normalize(torch.randn(ROWS, WIDTH, generator=generator), dim=1)


@pytest.fixture(scope="module")
def penalties() -> torch.Tensor:
    return torch.rand(ROWS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("count", [1, 7, ROWS, ROWS + 3])
def test_the_best_scores_of_a_full_product(vectors, penalties, corrected, count):
    query = vectors[3] + 0.5 * vectors[8]
    similarities = vectors.double().numpy() @ query.double().numpy()
    scores = similarities - corrected * penalties.double().numpy()
    expected = np.argsort(-scores)[:count]
    candidates = Candidates.of(vectors)
    if corrected:
        candidates.lower(penalties)
    found = candidates.nearest(query, count)
    assert [each.row for each in found] == expected.tolist()
    assert np.allclose([each.score for each in found], scores[expected], atol=1e-6)
    assert np.allclose([each.similarity for each in found], similarities[expected], atol=1e-6)


def test_the_best_of_some_candidates_are_those_in_the_order_of_all(vectors, penalties):
    candidates = Candidates.of(vectors)
    candidates.lower(penalties)
    some = torch.tensor([400, 3, 77, 8, 200])
    ordered = [each for each in candidates.nearest(vectors[3], ROWS) if each.row in some.tolist()]
    found = candidates.best_of(some, vectors[3], 3)
    assert [each.row for each in found] == [each.row for each in ordered[:3]]
    assert np.allclose([each.score for each in found], [each.score for each in ordered[:3]], atol=1e-6)


def test_vectors_come_back_without_their_penalties(vectors, penalties):
    candidates = Candidates.of(vectors)
    candidates.lower(penalties)
    assert torch.equal(candidates.vectors, vectors)
