"""Hubness correction against full matrices in float64; a hub loses its place; no other test query has a say."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.hubness import (
    CANDIDATES,
    HubnessCorrection,
    all_penalties,
    choose_correction,
    csls,
    inverted_softmax,
    training_sample,
)
from frozenalign.evaluation.metrics import Ranks, summarize
from frozenalign.evaluation.projections import Projections


def random_pairs(images: int, captions: int, seed: int) -> Projections:
    """Return noisy pairs around a common direction, which makes some of them hubs; captions stand in no order."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.cat([torch.arange(images), torch.randint(images, (captions - images,), generator=generator)])
    owner = owner[torch.randperm(captions, generator=generator)]
    rows = torch.randn(images, 8, generator=generator) + 0.7
    texts = rows[owner] + torch.randn(captions, 8, generator=generator)
    return Projections(functional.normalize(rows, dim=1), functional.normalize(texts, dim=1), owner)


@pytest.fixture(scope="module")
def training() -> Projections:
    return random_pairs(90, 300, seed=1)


@pytest.fixture(scope="module")
def pairs() -> Projections:
    return random_pairs(40, 110, seed=2)


def similarities(queries: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    return queries.double().numpy() @ gallery.double().numpy().T


def corrected_scores(
    method, queries: torch.Tensor, gallery: torch.Tensor, training_queries: torch.Tensor
) -> np.ndarray:
    """Return the corrected score of every query (rows) with every candidate, as the papers write it."""
    scores, background = similarities(queries, gallery), similarities(training_queries, gallery)
    if method.func is csls:
        return 2 * scores - np.sort(background, axis=0)[-method.keywords["k"] :].mean(0)
    temperature = method.keywords["temperature"]
    return scores / temperature - np.log(np.exp(background / temperature).sum(0))


def corrected_ranks(method, pairs: Projections, training: Projections) -> Ranks:
    (ranks,) = pairs.all_ranks(all_penalties([method], training, pairs))
    return ranks


def brute_force(method, pairs: Projections, training: Projections) -> Ranks:
    owner = pairs.text_image.numpy()
    to_images = np.argsort(-corrected_scores(method, pairs.texts, pairs.images, training.texts), axis=1)
    to_texts = np.argsort(-corrected_scores(method, pairs.images, pairs.texts, training.images), axis=1)
    t2i = [to_images[text].tolist().index(image) for text, image in enumerate(owner)]
    captions = [to_texts[image].tolist().index(text) for text, image in enumerate(owner)]
    return Ranks(np.array(t2i), np.array(captions), owner)


@pytest.mark.parametrize("method", [*CANDIDATES, partial(csls, k=1), partial(csls, k=90)])
def test_every_rank_equals_brute_force(method, pairs, training):
    found = corrected_ranks(method, pairs, training)
    expected = brute_force(method, pairs, training)
    np.testing.assert_array_equal(found.t2i, expected.t2i)
    np.testing.assert_array_equal(found.i2t, expected.i2t)
    assert (found.t2i != pairs.ranks().t2i).mean() > 0.1


def test_fewer_training_queries_than_neighbours_are_all_taken(pairs, training):
    few = training.of_images(0, 3)
    ranks = [corrected_ranks(partial(csls, k=k), pairs, few) for k in (len(few.texts), 1000)]
    np.testing.assert_array_equal(ranks[0].t2i, ranks[1].t2i)


@pytest.mark.parametrize("method", [partial(csls, k=6), partial(inverted_softmax, temperature=0.05)])
def test_a_hub_among_the_images_is_corrected(method):
    """One image is nearest to every caption, of the test and of training; corrected, each caption finds its own."""
    hub, others = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.eye(4)[1:]
    images = torch.cat([hub[None], others])
    texts = functional.normalize(torch.cat([hub[None], others + 1.2 * hub]), dim=1)
    pairs = Projections(images, texts, torch.arange(4))
    assert pairs.ranks().t2i.tolist() == [0, 1, 1, 1]
    training = Projections(images, functional.normalize(others + 1.2 * hub, dim=1).repeat(2, 1), torch.arange(6) % 3)
    assert corrected_ranks(method, pairs, training).t2i.tolist() == [0, 0, 0, 0]


def test_a_candidates_penalty_does_not_depend_on_the_other_pairs(pairs, training):
    correction = HubnessCorrection(partial(csls, k=10), training, plain={}, corrected={})
    half = pairs.of_images(0, 20)
    whole, alone = correction.penalties(pairs), correction.penalties(half)
    torch.testing.assert_close(whole.images[:20], alone.images)
    torch.testing.assert_close(whole.texts[pairs.texts_of(0, 20)], alone.texts)


def test_validation_chooses_the_candidate_with_the_highest_rsum(training):
    validation = random_pairs(50, 150, seed=3)
    chosen = choose_correction(training, validation)
    summaries = [summarize(brute_force(method, validation, training)) for method in CANDIDATES]
    best = int(np.argmax([summary["RSUM"] for summary in summaries]))
    assert chosen.method == CANDIDATES[best]
    described = chosen.described()
    assert described["validation_RSUM"] == pytest.approx(summaries[best]["RSUM"])
    for found, ranked in (
        ("plain", validation.ranks()),
        ("corrected", brute_force(chosen.method, validation, training)),
    ):
        for direction, of_direction in described["validation"][found].items():
            recalls = summarize(ranked)[direction]
            assert of_direction == pytest.approx(recalls["R@1"] + recalls["R@5"] + recalls["R@10"])
    assert (described["training_images"], described["training_captions"]) == (90, 300)
    assert described["type"] in ("csls", "inverted_softmax")


def test_the_choice_names_the_method_with_its_setting(training):
    validation = random_pairs(10, 10, seed=4)
    described = choose_correction(training, validation).described()
    settings = {"csls": "k", "inverted_softmax": "temperature"}
    assert settings[described["type"]] in described


def test_a_small_training_split_is_taken_whole():
    split = SplitIndex(np.arange(5), np.arange(12), np.repeat(np.arange(4), 3))
    found = training_sample(split, pairs=12)
    assert found.image_rows.tolist() == split.image_rows.tolist()
    assert found.text_image.tolist() == split.text_image.tolist()


def test_a_large_one_gives_whole_images_spread_over_it(rng):
    owner = rng.permutation(np.repeat(np.arange(2000), rng.integers(1, 8, size=2000)))
    split = SplitIndex(3 * np.arange(2000), 2 * np.arange(len(owner)), owner)
    found = training_sample(split, pairs=3000)
    assert 2500 <= len(found.text_rows) <= 3000
    assert found.image_rows[0] < 100
    assert found.image_rows[-1] > 5000
    for place, row in enumerate(found.image_rows):
        expected = split.text_rows[split.text_image == row // 3]
        assert found.text_rows[found.text_image == place].tolist() == expected.tolist()


def test_one_image_is_taken_however_many_captions_it_has():
    split = SplitIndex(np.arange(2), np.arange(20), np.repeat([0, 1], 10))
    assert len(training_sample(split, pairs=5).image_rows) == 1
