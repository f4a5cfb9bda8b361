"""Generated scenes of coloured shapes: sampled, drawn as small pictures, and described in everyday words.

A scene holds facts (colour, kind, size, place, background); each caption names some of them and leaves out others.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

Option = TypeVar("Option")
PICTURE_SIZE = 64
OVERSAMPLING = 4
COLOURS = {
    "red": (208, 46, 52),
    "orange": (240, 130, 40),
    "yellow": (244, 200, 48),
    "green": (62, 156, 78),
    "teal": (32, 162, 164),
    "blue": (48, 98, 208),
    "purple": (128, 70, 180),
    "pink": (240, 116, 176),
    "brown": (128, 82, 50),
    "black": (40, 42, 50),
}
TINTS = {
    "cream": (250, 243, 224),
    "pale blue": (216, 232, 248),
    "mint": (214, 241, 224),
    "blush": (252, 224, 228),
    "lavender": (230, 220, 246),
    "light grey": (224, 226, 229),
}
RADII = {"small": 4.2, "medium": 6.4, "large": 9.0}
KINDS = ("circle", "square", "triangle", "diamond", "star", "ring", "cross", "heart")
GRID = 3
CELL_PITCH = 19.0
WOBBLE = np.array([1.0, 1.0, 0.07, 0.15])  # pixels, pixels, share of the radius, radians
# A word that is listed twice is chosen twice as often.
WORDS = {
    "red": ("red", "red", "bright red", "crimson"),
    "yellow": ("yellow", "yellow", "golden"),
    "teal": ("teal", "teal", "turquoise"),
    "purple": ("purple", "purple", "violet"),
    "cream": ("cream", "off-white"),
    "pale blue": ("pale blue", "light blue"),
    "mint": ("mint", "pale green"),
    "blush": ("pale pink", "blush"),
    "lavender": ("lavender", "lilac"),
    "light grey": ("light grey", "pale grey"),
    "small": ("small", "small", "little", "tiny"),
    "medium": ("", "", "medium-sized"),
    "large": ("large", "big", "big", "huge"),
    "circle": ("circle", "circle", "disc"),
    "square": ("square", "square", "box"),
    "ring": ("ring", "ring", "hoop"),
    "cross": ("cross", "cross", "plus sign"),
}
PLACES = {
    (0, 0): ("in the top left corner", "at the upper left", "near the top", "on the left"),
    (0, 1): ("at the top", "near the top edge"),
    (0, 2): ("in the top right corner", "at the upper right", "near the top", "on the right"),
    (1, 0): ("on the left", "at the left edge"),
    (1, 1): ("in the middle", "in the centre", "right in the middle"),
    (1, 2): ("on the right", "at the right edge"),
    (2, 0): ("in the bottom left corner", "at the lower left", "near the bottom", "on the left"),
    (2, 1): ("at the bottom", "near the bottom edge"),
    (2, 2): ("in the bottom right corner", "at the lower right", "near the bottom", "on the right"),
}
PLURALS = {"cross": "crosses"}
COUNTS = {1: ("one shape", "a single shape"), 2: ("two shapes", "a pair of shapes"), 3: ("three shapes",)}


@dataclass(frozen=True)
class Shape:
    """A shape in a cell of the grid; `wobble` (-1 to 1 each) moves it right and down, makes it larger, and turns it."""

    colour: str
    kind: str
    size: str
    row: int
    column: int
    wobble: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Scene:
    """One to three shapes in different cells, no two alike in colour and kind; `shade` is added to the tint."""

    shapes: tuple[Shape, ...]
    tint: str
    shade: float = 0.0


def sample_scene(generator: np.random.Generator) -> Scene:
    """Return a random scene; only the generator's state decides which."""
    count = int(generator.integers(1, 4))
    looks: dict[tuple[str, str], str] = {}
    while len(looks) < count:
        looks[_pick(tuple(COLOURS), generator), _pick(KINDS, generator)] = _pick(tuple(RADII), generator)
    cells = generator.permutation(GRID * GRID)[:count].tolist()
    wobbles = generator.uniform(-1, 1, (count, 4)).tolist()
    shapes = [
        Shape(*look, size, *divmod(cell, GRID), tuple(wobble))
        for (look, size), cell, wobble in zip(looks.items(), cells, wobbles, strict=True)
    ]
    return Scene(tuple(shapes), _pick(tuple(TINTS), generator), float(generator.uniform(-5, 5)))


def draw_scene(scene: Scene) -> np.ndarray:
    """Return the scene's picture, (64, 64, 3) uint8; edges are anti-aliased by averaging 4 x 4 finer pixels."""
    ground = tuple(round(min(255.0, value + scene.shade)) for value in TINTS[scene.tint])
    canvas = Image.new("RGB", (PICTURE_SIZE * OVERSAMPLING,) * 2, ground)
    brush = ImageDraw.Draw(canvas)
    for shape in scene.shapes:
        brush.polygon(_outline(shape, _OUTLINES[shape.kind]), fill=COLOURS[shape.colour])
        if shape.kind == "ring":
            brush.polygon(_outline(shape, 0.55 * _OUTLINES["circle"]), fill=ground)
    return np.asarray(canvas.reduce(OVERSAMPLING))


def write_captions(scene: Scene, count: int, generator: np.random.Generator) -> list[str]:
    """Return `count` captions, at most len(CAPTION_STYLES): all are true, each names other facts of the scene."""
    styles = generator.permutation(len(CAPTION_STYLES))[:count]
    texts = [CAPTION_STYLES[style](scene, generator) for style in styles]
    return [f"{text[0].upper()}{text[1:]}." for text in texts]


def _outline(shape: Shape, points: np.ndarray) -> list[float]:
    """Return the corners of an outline (n, 2) of unit radius, moved to the shape's place on the fine canvas."""
    right, down, stretch, tilt = np.array(shape.wobble) * WOBBLE
    rotation = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    centre = PICTURE_SIZE / 2 + CELL_PITCH * (np.array([shape.column, shape.row]) - GRID // 2) + (right, down)
    corners = points @ rotation * (RADII[shape.size] * (1 + stretch)) + centre
    return (corners * OVERSAMPLING).ravel().tolist()


def _polygon(radii: Sequence[float], corners: int) -> np.ndarray:
    """Return points (corners, 2) around the origin, the first one straight up, at alternating radii."""
    angle = 2 * np.pi * np.arange(corners) / corners
    return np.resize(radii, corners)[:, None] * np.stack([np.sin(angle), -np.cos(angle)], axis=1)


_TURN = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_HEART_DEPTH = 2 + 13 * np.cos(_TURN) - 5 * np.cos(2 * _TURN) - 2 * np.cos(3 * _TURN) - np.cos(4 * _TURN)
_CROSS = ((-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1))
_OUTLINES = {
    "circle": _polygon([0.95], 48),
    "square": 0.86 * np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]),
    "triangle": _polygon([1.2], 3) + np.array([0.0, 0.15]),
    "diamond": _polygon([1.1, 0.8], 4),
    "star": _polygon([1.1, 0.48], 10),
    "ring": _polygon([1.0], 48),
    "cross": np.array(_CROSS) / 3.0,
    "heart": np.stack([16 * np.sin(_TURN) ** 3, -_HEART_DEPTH], axis=1) / 15.5,
}


def _in_detail(scene: Scene, generator: np.random.Generator) -> str:
    """Size, colour and kind of every shape."""
    opening = _pick(("", "", "there is ", "a picture of ", "I can see "), generator)
    return opening + _all_named(scene, ("size", "colour", "kind"), generator)


def _colours_and_kinds(scene: Scene, generator: np.random.Generator) -> str:
    """Colour and kind of every shape, and the background."""
    return f"{_all_named(scene, ('colour', 'kind'), generator)} {_background(scene, generator)}"


def _one_in_its_place(scene: Scene, generator: np.random.Generator) -> str:
    """Colour, kind and place of one shape."""
    shape = _pick(scene.shapes, generator)
    name, place = _named(shape, ("colour", "kind"), generator), _place(shape, generator)
    return _pick((f"{name} {place}", f"there is {name} {place}", f"{place} there is {name}"), generator)


def _arrangement(scene: Scene, generator: np.random.Generator) -> str:
    """Kind and place of every shape."""
    shapes = _shuffled(scene.shapes, generator)
    return _listed([f"{_named(shape, ('kind',), generator)} {_place(shape, generator)}" for shape in shapes])


def _relation(scene: Scene, generator: np.random.Generator) -> str:
    """The relative place of two shapes; of a single shape, its kind and that the background is empty."""
    if len(scene.shapes) == 1:
        return f"nothing but {_named(scene.shapes[0], ('kind',), generator)} {_background(scene, generator)}"
    first, second = _shuffled(scene.shapes, generator)[:2]
    one, other = (_named(shape, ("colour", "kind"), generator) for shape in (first, second))
    return f"{one} {_pick(_relations(first, second), generator)} {other}"


def _relations(first: Shape, second: Shape) -> list[str]:
    """Return the place of the first shape relative to the second, along the axis on which they are further apart."""
    across, down = first.column - second.column, first.row - second.row
    found = []
    if abs(across) >= abs(down):
        found += ["to the left of", "left of"] if across < 0 else ["to the right of", "right of"]
    if abs(down) >= abs(across):
        found += ["above", "higher up than"] if down < 0 else ["below", "underneath"]
    return found + ["next to", "beside"] * (down == 0 and abs(across) == 1)


def _count(scene: Scene, generator: np.random.Generator) -> str:
    """How many shapes there are, and the look of one or the colour or kind of several."""
    counted = _pick(COUNTS[len(scene.shapes)], generator)
    name = _named(_pick(scene.shapes, generator), ("colour", "kind"), generator)
    if len(scene.shapes) == 1:
        return _pick((f"just {counted}, {name}", f"{counted}, {name}"), generator)
    observations = [f"{counted}, one of them {name}", f"{counted} including {name}"]
    colours = Counter(shape.colour for shape in scene.shapes)
    kinds = Counter(PLURALS.get(shape.kind, f"{shape.kind}s") for shape in scene.shapes)
    for what, alike in (*colours.items(), *kinds.items()):
        if alike > 1:
            observations += [f"{counted}, {'all' if alike == len(scene.shapes) else 'two'} of them {what}"] * 2
    return _pick(observations, generator)


def _colours_only(scene: Scene, generator: np.random.Generator) -> str:
    """The colours that occur."""
    shapes = _shuffled(scene.shapes, generator)
    colours = [_word(colour, generator) for colour in dict.fromkeys(shape.colour for shape in shapes)]
    joined = _listed(colours)
    if len(colours) == 1:
        return _pick((f"something {joined}", f"a drawing all in {joined}"), generator)
    somethings = _listed([f"something {colour}" for colour in colours])
    return _pick((f"{joined} shapes", f"a drawing in {joined}", somethings), generator)


def _sizes_and_kinds(scene: Scene, generator: np.random.Generator) -> str:
    """Size and kind of every shape."""
    opening = _pick(("", "a simple drawing of ", "someone drew "), generator)
    return opening + _all_named(scene, ("size", "kind"), generator)


def _background_first(scene: Scene, generator: np.random.Generator) -> str:
    """The background, and colour, place and maybe size of something on it."""
    shape = _pick(scene.shapes, generator)
    size, colour = _word(shape.size, generator), _word(shape.colour, generator)
    look = f"{size} and {colour}" if size else colour
    ground = _pick(("background", "card", "page"), generator)
    return f"{_article(_word(scene.tint, generator))} {ground} with something {look} {_place(shape, generator)}"


CAPTION_STYLES = (
    _in_detail,
    _colours_and_kinds,
    _one_in_its_place,
    _arrangement,
    _relation,
    _count,
    _colours_only,
    _sizes_and_kinds,
    _background_first,
)


def _named(shape: Shape, facts: Sequence[str], generator: np.random.Generator) -> str:
    """Name a shape by some of its facts: `a small red disc`."""
    words = [_word(getattr(shape, fact), generator) for fact in facts]
    return _article(" ".join(word for word in words if word))


def _all_named(scene: Scene, facts: Sequence[str], generator: np.random.Generator) -> str:
    return _listed([_named(shape, facts, generator) for shape in _shuffled(scene.shapes, generator)])


def _background(scene: Scene, generator: np.random.Generator) -> str:
    tint = _word(scene.tint, generator)
    phrases = (f"on {_article(tint)} background", f"on {tint} paper", f"against {_article(tint)} backdrop")
    return _pick(phrases, generator)


def _place(shape: Shape, generator: np.random.Generator) -> str:
    return _pick(PLACES[shape.row, shape.column], generator)


def _word(fact: str, generator: np.random.Generator) -> str:
    return _pick(WORDS.get(fact, (fact,)), generator)


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _pick(options: Sequence[Option], generator: np.random.Generator) -> Option:
    return options[int(generator.integers(len(options)))]


def _shuffled(shapes: Sequence[Shape], generator: np.random.Generator) -> list[Shape]:
    return [shapes[position] for position in generator.permutation(len(shapes))]
