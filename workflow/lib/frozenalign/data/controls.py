"""Controls: training pairs from which nothing can be learned, so that a head must end at chance.

A head that scores above chance after one of them has seen test pairs, or is measured wrongly. Zhang et al. 2017,
Understanding deep learning requires rethinking generalization, also train on random labels and on noise.
"""

import numpy as np
import torch

from frozenalign.data.pairs import TrainingPairs
from frozenalign.system.errors import UserError

CONTROLS_STREAM = 2**31


def altered(pairs: TrainingPairs, control: str, seed: int) -> TrainingPairs:
    """Return training pairs altered by `training.control`; the given pairs stay as they are.

    shuffled_pairs assigns the captions to other images at random, shifted_pairs gives each the next image, and
    random_embeddings replaces the rows of both modalities by standard normal ones.
    """
    # Epochs draw their batches from [seed, epoch]: a stream of its own keeps the control from drawing the same numbers.
    generator = np.random.default_rng([seed, CONTROLS_STREAM])
    if control == "random_embeddings":
        return pairs.with_noise(generator)
    if control == "none":
        return pairs
    own = pairs.text_image.cpu().numpy()
    captions = np.bincount(own).max()
    if 2 * captions > len(own):
        raise UserError(
            f"training.control: {control} cannot give every caption another image, because one image has {captions} of "
            f"the {len(own)} training captions: use random_embeddings"
        )
    dealt = _dealt_to_others(own, generator) if control == "shuffled_pairs" else (own + 1) % (own.max() + 1)
    return pairs.of_images(torch.from_numpy(dealt).to(pairs.text_image.device))


def _dealt_to_others(text_image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the images (m,) of shuffled captions, never its own; every image keeps its number of captions."""
    dealt = generator.permutation(text_image)
    while len(kept := np.flatnonzero(dealt == text_image)):
        place = kept[0]
        fits = np.flatnonzero((dealt != text_image[place]) & (text_image != text_image[place]))
        other = generator.choice(fits)
        dealt[[place, other]] = dealt[[other, place]]
    return dealt
