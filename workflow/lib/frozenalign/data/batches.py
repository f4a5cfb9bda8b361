"""Which pairs go into which batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


def batch_count(pair_image: np.ndarray, batch_size: int) -> int:
    """Return the number of batches of an epoch of the pairs (M,), enough for the image with the most captions."""
    return max(-(-len(pair_image) // batch_size), int(np.bincount(pair_image).max()))


def deal_pairs(pair_image: np.ndarray, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the batches of an epoch: every pair once, sizes equal within one, no image twice in a batch.

    pair_image: (M,) image of each pair. The pairs are dealt like cards, one to every batch in a lap, each lap in its
    own random order. The captions of an image are neighbours in the deck, so that only an image whose captions continue
    in the next lap could get two into a batch; there the batches that have one come last. An image with more captions
    than there are batches raises the number of batches.
    """
    pairs = len(pair_image)
    batches = batch_count(pair_image, batch_size)
    image_keys = generator.permutation(int(pair_image.max()) + 1)
    deck = np.argsort(image_keys[pair_image] + generator.random(pairs))
    keys = generator.random((-(-pairs // batches), batches))
    keys[_served_before(pair_image[deck], keys)] += 1.0
    dealt = np.argsort(keys, axis=1).ravel()[:pairs]
    # NumPy sorts whole numbers of 16 bits by counting.
    narrow = dealt.astype(np.int16) if batches < 1 << 15 else dealt
    by_batch = deck[np.argsort(narrow, kind="stable")]
    yield from np.split(by_batch, np.cumsum(np.bincount(dealt, minlength=batches))[:-1])


def _served_before(images: np.ndarray, keys: np.ndarray) -> tuple[list[int], list[int]]:
    """Return laps that go on with the image of the lap before, each with every batch that got a card of it there.

    images: (M,) in the order of the deck. keys: (laps, batches); the batches of a lap are served by ascending keys, but
    those that have a card of its first image come last.
    """
    batches = keys.shape[1]
    starts = np.arange(batches, len(images), batches)
    continued = starts[images[starts - 1] == images[starts]]
    first_of_image = np.flatnonzero(np.diff(images, prepend=-1))
    first = first_of_image[np.searchsorted(first_of_image, continued, side="right") - 1]
    cards = np.minimum(continued - first, batches)
    # The last batches of the lap before are those that come last there for a card of its own first image, then others.
    others = np.argsort(-keys, axis=1)[:, : 2 * int(cards.max(initial=0))].tolist()
    laps: list[int] = []
    found: list[int] = []
    served: list[int] = []
    for lap, count in zip((continued // batches).tolist(), cards.tolist(), strict=True):
        late = served if laps and laps[-1] == lap - 1 else []
        if count < len(late):
            served = sorted(late, key=keys[lap - 1].__getitem__)[-count:]
        else:
            served = late + [batch for batch in others[lap - 1] if batch not in late][: count - len(late)]
        laps += [lap] * count
        found += served
    return laps, found


def shuffle_pairs(pair_image: np.ndarray, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the batches of an epoch: every pair once, sizes equal within one; one may hold captions of one image."""
    order = generator.permutation(len(pair_image))
    yield from np.array_split(order, -(-len(order) // batch_size))


@dataclass(frozen=True)
class BlockOrder:
    """The order of pairs that are read in blocks of neighbours.

    block: pairs of a block. together: the most pairs that are shuffled together.
    """

    block: int
    together: int

    def batches(self, pairs: int, batch_size: int) -> np.ndarray:
        """Return the number of batches of each group, in which the batches of an epoch are divided evenly."""
        batches = -(-pairs // batch_size)
        groups = -(-batches // max(1, self.together // batch_size))
        return np.diff(np.linspace(0, batches, groups + 1).astype(int))

    def groups(self, pairs: int, batch_size: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Return ascending pairs of each group: of blocks in random order, cut where a batch ends.

        Batches of a group, made by its own pairs alone, are as many and as large as those that all pairs together make.
        """
        order = generator.permutation(-(-pairs // self.block))
        sequence = (order[:, None] * self.block + np.arange(self.block)).ravel()
        sequence = sequence[sequence < pairs]
        batches = np.cumsum(self.batches(pairs, batch_size))
        return [np.sort(group) for group in np.split(sequence, batches[:-1] * pairs // batches[-1])]


def false_negative_rate(pair_image: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Return the share of the pairs whose batch holds another pair of their image."""
    met = 0
    for batch in batches:
        _, place, counts = np.unique(pair_image[batch], return_inverse=True, return_counts=True)
        met += int((counts[place] > 1).sum())
    return met / sum(map(len, batches))
