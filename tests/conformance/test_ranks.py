"""Ranks against brute force over the full float32 matrix, on every query; ties, collapse and ragged captions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from frozenalign.evaluation.counting import Penalties
from frozenalign.evaluation.metrics import Ranks, mean_average_precision_at_r, summarize
from frozenalign.evaluation.ranks import rank_counts, retrieval_ranks, score_tiles, top_candidates
from frozenalign.evaluation.shares import Share
from frozenalign.system import products as tiles
from tests.faults.property import cases


def brute_force(images: torch.Tensor, texts: torch.Tensor, caption_image: torch.Tensor) -> Ranks:
    """Sort the full matrix; a rival that ties with the match goes before it, an own caption that ties after it."""
    scores = (images @ texts.T).numpy()
    owner = caption_image.numpy()
    t2i = np.empty(len(texts), dtype=int)
    captions = np.empty(len(texts), dtype=int)
    for text, image in enumerate(owner):
        rival = np.arange(len(images)) != image
        order = np.lexsort((~rival, -scores[:, text]))
        t2i[text] = np.flatnonzero(order == image)[0]
    for image in range(len(images)):
        own = owner == image
        order = np.lexsort((own, -scores[image]))
        place = np.empty(len(texts), dtype=int)
        place[order] = np.arange(len(texts))
        captions[own] = place[own]
    return Ranks(t2i, captions, owner)


def random_pairs(images: int, captions: int, width: int, noise: float, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x = functional.normalize(torch.randn(images, width, generator=generator), dim=1)
    owner = torch.cat([torch.arange(images), torch.randint(images, (captions - images,), generator=generator)])
    owner = owner[torch.randperm(captions, generator=generator)]
    y = functional.normalize(x[owner] + noise * torch.randn(captions, width, generator=generator), dim=1)
    return x, y, owner


@pytest.mark.parametrize(("images", "captions", "width"), [(1, 1, 4), (7, 30, 3), (300, 1100, 16), (513, 2049, 64)])
def test_every_rank_equals_brute_force(images, captions, width):
    x, y, owner = random_pairs(images, captions, width, noise=0.5)
    found, expected = retrieval_ranks(x, y, owner), brute_force(x, y, owner)
    np.testing.assert_array_equal(found.t2i, expected.t2i)
    np.testing.assert_array_equal(found.captions, expected.captions)
    np.testing.assert_array_equal(found.i2t, expected.i2t)


def test_ties_count_against_the_match():
    """Coarse integer features make thousands of exact ties."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-1, 2, (60, 4), generator=generator).float()
    owner = torch.arange(240) % 60
    y = torch.randint(-1, 2, (240, 4), generator=generator).float()
    found, expected = retrieval_ranks(x, y, owner), brute_force(x, y, owner)
    np.testing.assert_array_equal(found.t2i, expected.t2i)
    np.testing.assert_array_equal(found.captions, expected.captions)


def test_two_images_that_look_alike_both_lose_the_first_place():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    ranks = retrieval_ranks(x, x, torch.arange(3))
    assert ranks.t2i.tolist() == [1, 1, 0]
    assert ranks.i2t.tolist() == [1, 1, 0]


def test_collapsed_embeddings_score_no_better_than_chance():
    x = functional.normalize(torch.ones(1000, 8), dim=1)
    summary = summarize(retrieval_ranks(x, x.repeat(5, 1), torch.arange(5000) % 1000))
    assert summary["t2i"]["R@1"] <= 0.1
    assert summary["i2t"]["R@1"] <= 0.1
    assert summary["RSUM"] <= 6 * 1.0


def test_rounding_never_hurts_a_perfect_model():
    x = functional.normalize(torch.randn(1500, 512, generator=torch.Generator().manual_seed(0)), dim=1)
    summary = summarize(retrieval_ranks(x, x.repeat_interleave(3, 0), torch.arange(4500) // 3))
    assert summary["i2t"]["R@1"] == 100.0
    assert summary["t2i"]["R@1"] == 100.0


def test_tile_shape_does_not_change_a_rank(monkeypatch):
    x, y, owner = random_pairs(200, 900, 32, noise=0.6)
    expected = retrieval_ranks(x, y, owner)
    monkeypatch.setattr(tiles, "CPU_TILE", 48)
    found = retrieval_ranks(x, y, owner)
    np.testing.assert_array_equal(found.t2i, expected.t2i)
    np.testing.assert_array_equal(found.captions, expected.captions)


@st.composite
def pairs_with_ties(draw) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Coarse features, so that scores tie, with duplicate images and captions, and any number of captions an image."""
    images, further = draw(st.integers(1, 40)), draw(st.integers(0, 80))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    width, levels = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    x = torch.randint(-levels, levels + 1, (images, width), generator=generator).float()
    x = x[torch.randint(images, (images,), generator=generator)]
    owner = torch.cat([torch.arange(images), torch.randint(images, (further,), generator=generator)])
    owner = owner[torch.randperm(len(owner), generator=generator)]
    noise = torch.randint(-1, 2, (len(owner), width), generator=generator)
    return x, x[owner] + noise * (torch.rand(len(owner), 1, generator=generator) < 0.5), owner


@cases(150)
@given(pairs=pairs_with_ties(), parts=st.sampled_from([1, 2, 3, 7]), tile=st.sampled_from([2, 8, 512]))
def test_the_counts_of_any_number_of_parts_add_up_to_the_ranks_of_brute_force(pairs, parts, tile):
    x, y, owner = pairs
    score_tiles.found["cpu"] = tile
    try:
        counts = [rank_counts(x, y, owner, [None], Share(part, parts))[0] for part in range(1, parts + 1)]
    finally:
        score_tiles.found.clear()
    expected = brute_force(x, y, owner)
    np.testing.assert_array_equal(sum(each.t2i for each in counts), expected.t2i)
    np.testing.assert_array_equal(sum(each.captions for each in counts), expected.captions)
    assert {each.tiles for each in counts} == {tile}
    assert len({each.matches for each in counts}) == 1


def penalised(images: torch.Tensor, texts: torch.Tensor, owner: torch.Tensor, penalties: Penalties) -> Ranks:
    """Return the ranks by brute force of products from which penalties are subtracted as a further dimension."""
    ones = [torch.ones(len(rows), 1) for rows in (images, texts)]
    to_images = torch.cat([images, -penalties.images[:, None]], 1), torch.cat([texts, ones[1]], 1)
    to_texts = torch.cat([images, ones[0]], 1), torch.cat([texts, -penalties.texts[:, None]], 1)
    return Ranks(brute_force(*to_images, owner).t2i, brute_force(*to_texts, owner).captions, owner.numpy())


@cases(150)
@given(pairs=pairs_with_ties(), parts=st.sampled_from([1, 2, 3]), seed=st.integers(0, 10**6))
def test_penalties_of_candidates_count_as_a_further_dimension_does(pairs, parts, seed):
    x, y, owner = pairs
    generator = torch.Generator().manual_seed(seed)
    penalties = Penalties(*(torch.randint(-1, 2, (len(rows),), generator=generator).float() for rows in (x, y)))
    counts = [rank_counts(x, y, owner, [penalties, None], Share(part, parts)) for part in range(1, parts + 1)]
    expected = penalised(x, y, owner, penalties), brute_force(x, y, owner)
    for found, ranks in zip(zip(*counts, strict=True), expected, strict=True):
        np.testing.assert_array_equal(sum(each.t2i for each in found), ranks.t2i)
        np.testing.assert_array_equal(sum(each.captions for each in found), ranks.captions)
        assert len({each.matches for each in found}) == 1


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_of_real_numbers_in_whole_tiles_add_up_to_the_ranks_of_one_process(parts):
    x, y, owner = random_pairs(1100, 2600, 64, noise=0.7)
    counts = [rank_counts(x, y, owner, [None], Share(part, parts))[0] for part in range(1, parts + 1)]
    expected = retrieval_ranks(x, y, owner)
    np.testing.assert_array_equal(sum(each.t2i for each in counts), expected.t2i)
    np.testing.assert_array_equal(sum(each.captions for each in counts), expected.captions)


def test_each_part_compares_its_own_tiles_and_no_more():
    """Twelve whole tiles among four parts; where all scores are equal, every score is counted."""
    x, owner = functional.normalize(torch.ones(1024, 8), dim=1), torch.arange(3072) % 1024
    counted = [int(rank_counts(x, x[owner], owner, [None], Share(part, 4))[0].t2i.sum()) for part in range(1, 5)]
    tiles_each = 3 * 512 * 512
    # The first part leaves out the matches themselves.
    assert counted == [tiles_each - 3072, tiles_each, tiles_each, tiles_each]


@pytest.mark.parametrize(("rows", "unit", "parts"), [(0, 1, 3), (1, 64, 2), (700, 256, 2), (700, 256, 7), (50, 1, 3)])
def test_shares_are_whole_blocks_that_cover_every_row_once(rows, unit, parts):
    shares = [Share(part, parts).of(rows, unit) for part in range(1, parts + 1)]
    assert [row for share in shares for row in range(rows)[share]] == list(range(rows))
    assert all(share.start % unit == 0 or share.start == rows for share in shares)
    blocks = [-(-(share.stop - share.start) // unit) for share in shares]
    assert max(blocks) - min(blocks) <= 1


def test_top_candidates_are_the_head_of_the_full_sort():
    x, y, _ = random_pairs(300, 1200, 8, noise=0.5)
    scores, indices = top_candidates(x, y, 20)
    full, order = (x @ y.T).sort(dim=1, descending=True)
    torch.testing.assert_close(scores, full[:, :20])
    assert torch.equal(indices, order[:, :20])


def test_map_at_r_equals_a_direct_count():
    x, y, owner = random_pairs(80, 400, 6, noise=0.8)
    ranks = brute_force(x, y, owner)
    precisions = []
    for image in range(80):
        own = ranks.captions[ranks.caption_image == image]
        hits = np.isin(np.arange(len(own)), own)
        precisions.append(sum(hits[: k + 1].mean() for k in range(len(own)) if hits[k]) / len(own))
    found = mean_average_precision_at_r(ranks, ranks.i2t)
    assert found == pytest.approx(100 * np.mean(precisions))
