"""The nearest candidates, found tile by tile, are those of a full sort."""

import numpy as np
import pytest
import torch

from frozenalign.evaluation.nearest import Nearest, columns_with_highest
from frozenalign.evaluation.ranks import rank_counts, rank_counts_and_nearest, score_tiles
from frozenalign.evaluation.shares import WHOLE, Share
from tests.conformance.test_ranks import random_pairs
from tests.nearest_by_sorting import occurrences


@pytest.fixture(params=[8, 64, 512])
def tile(request):
    score_tiles.found["cpu"] = request.param
    yield request.param
    score_tiles.found.clear()


@pytest.mark.parametrize(
    ("images", "captions", "parts"), [(1, 1, 1), (4, 40, 1), (300, 1200, 1), (300, 1200, 3), (90, 700, 7)]
)
def test_occurrences_of_all_parts_add_up_to_those_of_the_full_sort(images, captions, parts, tile):
    x, y, owner = random_pairs(images, captions, 8, noise=0.5)
    shares = [Share(part, parts) for part in range(1, parts + 1)]
    found = [rank_counts_and_nearest(x, y, owner, [], share)[1] for share in shares]
    np.testing.assert_array_equal(sum(each["nearest_images"] for each in found), occurrences(y, x))
    np.testing.assert_array_equal(sum(each["nearest_texts"] for each in found), occurrences(x, y))


@pytest.mark.parametrize("share", [WHOLE, Share(2, 3)])
def test_ranks_that_are_counted_beside_the_nearest_are_those_that_are_counted_alone(share):
    x, y, owner = random_pairs(1100, 2600, 16, noise=0.7)
    counts, _ = rank_counts_and_nearest(x, y, owner, [None], share)
    alone = rank_counts(x, y, owner, [None], share)
    np.testing.assert_array_equal(counts[0].t2i, alone[0].t2i)
    np.testing.assert_array_equal(counts[0].captions, alone[0].captions)
    assert counts[0].matches == alone[0].matches


def test_of_equal_candidates_as_many_are_counted_as_there_are_places():
    x = torch.ones(50, 4)
    _, found = rank_counts_and_nearest(x, x.repeat(3, 1), torch.arange(150) % 50, [])
    assert (found["nearest_images"].sum(), found["nearest_texts"].sum()) == (150 * 10, 50 * 10)


@pytest.mark.parametrize("columns", [5, 80, 88, 123, 512])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_columns_that_are_looked_at_hold_the_highest_scores(columns, transposed):
    generator = torch.Generator().manual_seed(columns)
    # Few levels, so that many scores are equal.
    scores = torch.randint(30, (40, columns), generator=generator).float()
    scores = scores.T.contiguous().T if transposed else scores
    k = min(10, columns)
    asked = columns_with_highest(scores, k)
    assert all(len(set(row)) == len(row) for row in asked.tolist())
    assert torch.equal(scores.gather(1, asked).sort(1, True)[0][:, :k], scores.sort(1, True)[0][:, :k])


def test_the_nearest_come_from_any_tile():
    scores = torch.randn(6, 200, generator=torch.Generator().manual_seed(0))
    nearest = Nearest(6, 200, 10, torch.device("cpu"))
    for start in range(0, 200, 40):
        nearest.add(slice(0, 6), slice(start, start + 40), scores[:, start : start + 40])
    assert torch.equal(nearest.candidates.sort(1)[0], scores.topk(10, 1).indices.sort(1)[0])
    assert torch.equal(nearest.scores, scores.gather(1, nearest.candidates))


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_count_the_same_ones_of_equal_candidates_as_one_process(parts, tile):
    x, y, owner = random_pairs(200, 900, 4, noise=0.5)
    x, y = x[torch.arange(200) // 4], y[torch.arange(900) // 20]
    _, expected = rank_counts_and_nearest(x, y, owner, [])
    found = [rank_counts_and_nearest(x, y, owner, [], Share(part, parts))[1] for part in range(1, parts + 1)]
    for name, times in expected.items():
        np.testing.assert_array_equal(sum(each[name] for each in found), times)
