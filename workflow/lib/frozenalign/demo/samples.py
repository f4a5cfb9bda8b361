"""Scenes and captions by seed: those that the demo shows, those its encoders are fitted on, those of benchmarks."""

from collections.abc import Sequence

import numpy as np

from frozenalign.demo.scenes import Scene, draw_scene, sample_scene, write_captions

# Had the encoders seen the scenes that the demo shows, every head would look better than it is.
SHOWN, UNSEEN, BENCHMARKS = 0, 1, 2
_SAMPLING, _WORDING = 0, 1


def sample_scenes(seed: int, purpose: int, count: int) -> list[Scene]:
    """Return scenes for a purpose, SHOWN, UNSEEN or BENCHMARKS; no seed gives a scene of one purpose to the other."""
    generator = _generator(seed, purpose, _SAMPLING)
    return [sample_scene(generator) for _ in range(count)]


def describe_scenes(seed: int, purpose: int, scenes: Sequence[Scene], captions: int) -> list[str]:
    """Return so many captions of each scene, scene after scene."""
    generator = _generator(seed, purpose, _WORDING)
    return [text for scene in scenes for text in write_captions(scene, captions, generator)]


def draw_scenes(scenes: Sequence[Scene]) -> np.ndarray:
    """Return the pictures of scenes, (N, 64, 64, 3) uint8."""
    return np.stack([draw_scene(scene) for scene in scenes])


def _generator(seed: int, purpose: int, part: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, part)))
