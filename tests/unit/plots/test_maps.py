"""Samples and maps for pictures: matches are matches, non-matches are not, and a map does not depend on chance."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from frozenalign.evaluation import samples
from frozenalign.evaluation.projections import Projections
from frozenalign.evaluation.samples import pair_sample, similarity_sample
from frozenalign.plots.maps import pca_map, tsne_map


def projections_of(images: int, captions: int, seed: int = 0) -> Projections:
    """Random directions; captions of an image stand apart from each other in the file."""
    generator = torch.Generator().manual_seed(seed)
    x = functional.normalize(torch.randn(images, 8, generator=generator), dim=1)
    y = functional.normalize(torch.randn(images * captions, 8, generator=generator), dim=1)
    return Projections(x, y, torch.arange(images).repeat(captions))


def test_matches_are_all_matching_pairs():
    projections = projections_of(30, 4)
    matches, _ = similarity_sample(projections)
    expected = [float(projections.images[j % 30].double() @ text.double()) for j, text in enumerate(projections.texts)]
    np.testing.assert_allclose(matches, expected, atol=1e-6)


def test_non_matches_are_drawn_from_all_other_pairs_and_only_them():
    """Few enough pairs that every one of them is drawn."""
    projections = projections_of(6, 2)
    _, non_matches = similarity_sample(projections)
    scores = (projections.images.double() @ projections.texts.double().T).numpy()
    other = np.sort(scores[projections.text_image.numpy()[None, :] != np.arange(6)[:, None]])
    nearest = np.abs(non_matches[:, None] - other[None, :])
    assert nearest.min(1).max() < 1e-6
    drawn = np.bincount(nearest.argmin(1), minlength=len(other))
    assert drawn.min() > 0.8 * drawn.mean()
    assert len(non_matches) <= 20_000


def test_of_a_single_image_there_are_no_non_matches():
    matches, non_matches = similarity_sample(projections_of(1, 3))
    assert (len(matches), len(non_matches)) == (3, 0)


def test_the_seed_draws_the_sample():
    projections = projections_of(300, 2)
    for sample in (similarity_sample, pair_sample):
        first, again, other = (sample(projections, seed)[1] for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert first.shape != other.shape or (first != other).any()


@pytest.mark.parametrize(("images", "expected"), [(300, 200), (200, 200), (7, 7), (1, 1)])
def test_sampled_pairs_are_different_images_each_with_a_text_of_its_own(images, expected):
    projections = projections_of(images, 3)
    x, y = pair_sample(projections)
    assert x.shape == y.shape == (expected, 8)
    image = [int((projections.images == torch.from_numpy(row)).all(1).nonzero()) for row in x]
    text = [int((projections.texts == torch.from_numpy(row)).all(1).nonzero()) for row in y]
    assert len(set(image)) == expected
    assert projections.text_image[text].tolist() == image


def test_a_sampled_text_is_not_always_the_first_of_its_image():
    projections = projections_of(100, 3)
    _, y = pair_sample(projections)
    place = np.array([int((projections.texts == torch.from_numpy(row)).all(1).nonzero()) // 100 for row in y])
    assert set(place.tolist()) == {0, 1, 2}


def test_the_first_principal_components_of_both_modalities_together(rng):
    images, texts = rng.normal(size=(20, 5)) * [5, 3, 1, 1, 1], rng.normal(size=(30, 5)) + 4
    found = np.concatenate(pca_map(images, texts))
    both = np.concatenate([images, texts])
    centred = both - both.mean(0)
    axes = np.linalg.svd(centred)[2][:2]
    expected = centred @ axes.T
    np.testing.assert_allclose(found * np.sign((found * expected).sum(0)), expected, atol=1e-8)


def test_the_two_parts_of_a_map_are_images_and_texts(rng):
    images, texts = rng.normal(size=(20, 5)), rng.normal(size=(30, 5))
    for draw in (pca_map, tsne_map):
        first, second = draw(images, texts)
        assert (first.shape, second.shape) == ((20, 2), (30, 2))


def test_neighbours_by_cosine_are_neighbours_on_the_map(rng):
    """Two bundles of directions at random lengths: on the map each point's nearest is of its own bundle."""
    bundles = np.repeat(np.eye(2, 6), 20, axis=0) + 0.05 * rng.normal(size=(40, 6))
    rows = bundles * rng.uniform(0.1, 10, size=(40, 1))
    plane = np.concatenate(tsne_map(rows[::2], rows[1::2]))
    bundle = np.concatenate([np.repeat([0, 1], 20)[::2], np.repeat([0, 1], 20)[1::2]])
    distances = np.linalg.norm(plane[:, None] - plane[None, :], axis=2) + np.diag(np.full(40, np.inf))
    assert (bundle[distances.argmin(1)] == bundle).all()


def test_a_map_is_the_same_every_time(rng):
    images, texts = rng.normal(size=(15, 5)), rng.normal(size=(15, 5))
    for draw in (pca_map, tsne_map):
        np.testing.assert_array_equal(draw(images, texts), draw(images, texts))


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_few_pairs_have_a_map(pairs, rng):
    for draw in (pca_map, tsne_map):
        assert np.isfinite(draw(rng.normal(size=(pairs, 5)), rng.normal(size=(pairs, 5)))).all()


def test_a_space_of_one_dimension_has_a_map(rng):
    images, texts = rng.normal(size=(6, 1)), rng.normal(size=(6, 1))
    for draw in (pca_map, tsne_map):
        first, second = draw(images, texts)
        assert first.shape == second.shape == (6, 2)


def test_no_more_non_matches_are_drawn_than_wanted(monkeypatch):
    monkeypatch.setattr(samples, "NON_MATCHES", 100)
    assert 80 < len(similarity_sample(projections_of(50, 2))[1]) <= 100
