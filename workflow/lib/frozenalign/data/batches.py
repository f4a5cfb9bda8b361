"""Which pairs go into a step."""

from collections.abc import Iterator, Sequence

import numpy as np


def batch_count(pair_image: np.ndarray, batch_size: int) -> int:
    """Return the number of batches of an epoch of the pairs (M,), enough for the image with the most captions."""
    return max(-(-len(pair_image) // batch_size), int(np.bincount(pair_image).max()))


def deal_pairs(pair_image: np.ndarray, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the batches of an epoch: every pair once, sizes equal within one, no image twice in a batch.

    pair_image: (M,) image of each pair. The pairs are dealt like cards, one to every batch in a lap, each lap in an
    order of its own; the captions of an image lie together in the deck, so only an image that straddles two laps could
    meet itself, and the second lap's order is made so that it does not. An image with more captions than there are
    batches raises the number of batches.
    """
    pairs = len(pair_image)
    batches = batch_count(pair_image, batch_size)
    deck = _shuffled_by_image(pair_image, generator)
    images = pair_image[deck]
    dealt = np.empty(pairs, dtype=np.int64)
    for start in range(0, pairs, batches):
        stop = min(start + batches, pairs)
        keys = generator.random(batches)
        if start:
            previous = slice(start - batches, start)
            keys[dealt[previous][images[previous] == images[start]]] += 1.0
        dealt[start:stop] = np.argsort(keys)[: stop - start]
    by_batch = deck[np.argsort(dealt, kind="stable")]
    yield from np.split(by_batch, np.cumsum(np.bincount(dealt, minlength=batches))[:-1])


def shuffle_pairs(pair_image: np.ndarray, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the batches of an epoch: every pair once, in random order, so that captions of one image may meet."""
    order = generator.permutation(len(pair_image))
    yield from np.split(order, range(batch_size, len(order), batch_size))


def false_negative_rate(pair_image: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Return the share of the pairs in the batches that meet another pair of their own image."""
    met = 0
    for batch in batches:
        _, place, counts = np.unique(pair_image[batch], return_inverse=True, return_counts=True)
        met += int((counts[place] > 1).sum())
    return met / sum(map(len, batches))


def _shuffled_by_image(pair_image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return all pairs (M,) with the images in random order and the captions of an image side by side, shuffled."""
    image_keys = generator.permutation(int(pair_image.max()) + 1)
    return np.lexsort((generator.random(len(pair_image)), image_keys[pair_image]))
