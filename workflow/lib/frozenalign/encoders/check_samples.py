"""Pictures and texts of which it is known which are alike; drawn or written here, so that every machine has them."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from PIL import Image, ImageDraw

WHITE, RED, BLUE, GREEN = (250, 250, 245), (200, 30, 40), (30, 60, 190), (30, 140, 60)


@dataclass(frozen=True)
class Samples:
    """items: pictures or texts. triples: places of an item, of one like it and of one unlike it."""

    items: tuple[Any, ...]
    triples: tuple[tuple[int, int, int], ...]


@runtime_checkable
class BringsSamples(Protocol):
    """An encoder of a world of its own, in which the samples here mean nothing."""

    def samples(self) -> Samples:
        """Return samples of that world."""


def samples(encoder: Any, modality: str) -> Samples:
    """Return the samples for image or text with which an encoder is checked."""
    if isinstance(encoder, BringsSamples):
        return encoder.samples()
    return picture_samples() if modality == "image" else text_samples()


def picture_samples() -> Samples:
    """Return discs, stripes and squares, each twice, of several sizes and shapes."""
    items = (
        _disc((320, 240), 90),
        _disc((300, 260), 80),
        _stripes((320, 240), 24),
        _stripes((260, 300), 22),
        _squares((240, 240), 40),
        _squares((360, 250), 44),
    )
    return Samples(items, ((0, 1, 2), (2, 3, 4), (4, 5, 0)))


def text_samples() -> Samples:
    """Return captions, each twice in other words, of 2 to some 30 words."""
    items = (
        "A brown dog runs across the grass.",
        "A dog is running over the green grass.",
        "Two people sit at a table and eat dinner.",
        "A man and a woman are eating dinner together at a wooden table in a small restaurant, while a waiter in a "
        "white shirt pours some water into their glasses.",
        "Sailing boats.",
        "Some boats are sailing on the blue sea.",
    )
    return Samples(items, ((0, 1, 2), (2, 3, 4), (4, 5, 0)))


def _disc(size: tuple[int, int], radius: int) -> Image.Image:
    picture = Image.new("RGB", size, WHITE)
    x, y = size[0] // 2, size[1] // 2
    ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=RED)
    return picture


def _stripes(size: tuple[int, int], width: int) -> Image.Image:
    picture = Image.new("RGB", size, WHITE)
    for left in range(0, size[0], 2 * width):
        ImageDraw.Draw(picture).rectangle((left, 0, left + width, size[1]), fill=BLUE)
    return picture


def _squares(size: tuple[int, int], side: int) -> Image.Image:
    picture = Image.new("RGB", size, WHITE)
    for left in range(0, size[0], side):
        for top in range(left // side % 2 * side, size[1], 2 * side):
            ImageDraw.Draw(picture).rectangle((left, top, left + side, top + side), fill=GREEN)
    return picture
