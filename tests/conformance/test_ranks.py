"""Ranks against brute force over the full float32 matrix, on every query; ties, collapse and ragged captions."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from frozenalign.evaluation.metrics import Ranks, mean_average_precision_at_r, summarize
from frozenalign.evaluation.ranks import retrieval_ranks, top_candidates
from frozenalign.system import products as tiles


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
