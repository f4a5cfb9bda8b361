"""Samples of projected pairs, small enough to plot."""

import numpy as np
import torch

from frozenalign.evaluation.projections import Projections

MAPPED_PAIRS = 200
NON_MATCHES = 20_000


def drawn_samples(projections: Projections, mapped: Projections) -> dict[str, np.ndarray]:
    """Return samples.npz: similarities `matches` (M,), `non_matches` (R,) and pairs of `images` and `texts` (n, D).

    mapped: where the rows lie, without any penalty for hubs.
    """
    matches, non_matches = similarity_sample(projections)
    images, texts = pair_sample(mapped)
    return {"matches": matches, "non_matches": non_matches, "images": images, "texts": texts}


def similarity_sample(projections: Projections, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosine similarities of all matching pairs, (M,), and of up to 20,000 random non-matching ones."""
    generator = torch.Generator().manual_seed(seed)
    own = projections.text_image
    matches = (projections.images[own] * projections.texts).sum(1)
    texts = torch.randint(len(projections.texts), (NON_MATCHES,), generator=generator).to(own.device)
    images = torch.randint(len(projections.images), (NON_MATCHES,), generator=generator).to(own.device)
    texts, images = texts[own[texts] != images], images[own[texts] != images]
    non_matches = (projections.images[images] * projections.texts[texts]).sum(1)
    return matches.cpu().numpy(), non_matches.cpu().numpy()


def pair_sample(projections: Projections, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return up to 200 images (n, D) with one text each (n, D)."""
    generator = np.random.default_rng(seed)
    own = projections.text_image.cpu().numpy()
    shuffled = generator.permutation(len(own))
    images, first = np.unique(own[shuffled], return_index=True)
    chosen = np.sort(generator.permutation(len(images))[:MAPPED_PAIRS])
    texts = shuffled[first[chosen]]
    return projections.images[images[chosen]].cpu().numpy(), projections.texts[texts].cpu().numpy()
