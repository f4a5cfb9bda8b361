"""The demo encoders are frozen, see each input alone, and leave a linear map something to learn."""

import numpy as np
import pytest

from frozenalign.demo.encoders import ImageEncoder, TextEncoder, fit_image_encoder, fit_text_encoder
from frozenalign.demo.scenes import draw_scene, sample_scene, write_captions

CAPTIONS = 3


def pictures_and_captions(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    scenes = [sample_scene(generator) for _ in range(count)]
    captions = [text for scene in scenes for text in write_captions(scene, CAPTIONS, generator)]
    return np.stack([draw_scene(scene) for scene in scenes]), captions


@pytest.fixture(scope="module")
def encoders() -> tuple[ImageEncoder, TextEncoder]:
    pictures, captions = pictures_and_captions(500, seed=1)
    return fit_image_encoder(pictures, seed=0), fit_text_encoder(captions, seed=0)


def test_both_embeddings_are_256_wide_float32_finite_and_not_zero(encoders):
    for encoder, inputs in zip(encoders, pictures_and_captions(50, seed=2), strict=True):
        rows = encoder.encode(inputs)
        assert rows.shape == (len(inputs), 256)
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert (np.linalg.norm(rows, axis=1) > 0.1).all()


def test_an_embedding_does_not_depend_on_what_is_encoded_with_it(encoders):
    for encoder, inputs in zip(encoders, pictures_and_captions(300, seed=2), strict=True):
        together = encoder.encode(inputs)
        for chosen in (slice(0, 1), slice(7, 20), slice(None, None, -1)):
            np.testing.assert_allclose(encoder.encode(inputs[chosen]), together[chosen], atol=1e-5)


def test_encoding_leaves_the_encoders_as_they_are(encoders):
    pictures, captions = pictures_and_captions(20, seed=2)
    other_pictures, other_captions = pictures_and_captions(60, seed=3)
    image_encoder, text_encoder = encoders
    before = image_encoder.encode(pictures), text_encoder.encode(captions)
    image_encoder.encode(other_pictures), text_encoder.encode(other_captions)
    assert np.array_equal(before[0], image_encoder.encode(pictures))
    assert np.array_equal(before[1], text_encoder.encode(captions))


def test_encoders_fitted_twice_are_equal(encoders):
    pictures, captions = pictures_and_captions(500, seed=1)
    again = fit_image_encoder(pictures, seed=0), fit_text_encoder(captions, seed=0)
    for first, second, inputs in zip(encoders, again, pictures_and_captions(20, seed=2), strict=True):
        assert np.array_equal(first.encode(inputs), second.encode(inputs))


def test_a_linear_map_finds_pictures_by_captions_far_better_than_chance_but_not_perfectly(encoders):
    pictures, captions = pictures_and_captions(1000, seed=2)
    images, texts = encoders[0].encode(pictures), encoders[1].encode(captions)
    sources, targets = np.repeat(images[:800], CAPTIONS, axis=0), texts[: 800 * CAPTIONS]
    mean, goal = sources.mean(axis=0), targets.mean(axis=0)
    x, y = sources - mean, targets - goal
    ridge = 0.1 * len(x) * x.var(axis=0).mean() * np.eye(256)
    gallery = (images[800:] - mean) @ np.linalg.solve(x.T @ x + ridge, x.T @ y)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    scores = (texts[800 * CAPTIONS :] - goal) @ gallery.T
    partner = np.repeat(np.arange(200), CAPTIONS)
    ranks = (scores > scores[np.arange(len(scores)), partner][:, None]).sum(axis=1) + 1
    assert 0.30 < (ranks <= 10).mean() < 0.95
    assert 0.05 < (ranks == 1).mean() < 0.60
