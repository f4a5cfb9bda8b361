"""Scenes are reproducible, pictures show what the facts say, and captions are true, different, and silent on much.

The captions are read here by a small parser, which shares no word list with the code that writes them. It fails on any
word that it does not know, and checks every statement against the facts.
"""

import re
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import pytest

from frozenalign.demo.scenes import CAPTION_STYLES, Scene, Shape, draw_scene, sample_scene, write_captions

COLOURS = ["red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "black"]
SAME_COLOUR = {"bright red": "red", "crimson": "red", "golden": "yellow", "turquoise": "teal", "violet": "purple"}
KINDS = ["circle", "square", "triangle", "diamond", "star", "ring", "cross", "heart"]
SAME_KIND = {"disc": "circle", "box": "square", "hoop": "ring", "plus sign": "cross"}
SIZES = {"small": "small", "little": "small", "tiny": "small", "medium-sized": "medium"}
SIZES |= {"large": "large", "big": "large", "huge": "large"}
TINTS = {"cream": "cream", "off-white": "cream", "pale blue": "pale blue", "light blue": "pale blue", "mint": "mint"}
TINTS |= {"pale green": "mint", "pale pink": "blush", "blush": "blush", "lavender": "lavender", "lilac": "lavender"}
TINTS |= {"light grey": "light grey", "pale grey": "light grey"}
GROUND = re.compile(rf"\b({'|'.join(TINTS)}) (?:background|backdrop|paper|card|page)\b")
PLACE = re.compile(
    r"\b(?:at|in|near|on|right in) the (top|upper|bottom|lower|left|right|middle|centre)(?: (left|right))?"
    r"(?: corner| edge)?\b(?! of)"
)
ROWS, COLUMNS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}, {"left": 0, "right": 2}
RELATIONS = {
    "to the left of": lambda a, b: a.column < b.column,
    "left of": lambda a, b: a.column < b.column,
    "to the right of": lambda a, b: a.column > b.column,
    "right of": lambda a, b: a.column > b.column,
    "above": lambda a, b: a.row < b.row,
    "higher up than": lambda a, b: a.row < b.row,
    "below": lambda a, b: a.row > b.row,
    "underneath": lambda a, b: a.row > b.row,
    "next to": lambda a, b: a.row == b.row and abs(a.column - b.column) == 1,
    "beside": lambda a, b: a.row == b.row and abs(a.column - b.column) == 1,
}
RELATION = re.compile(rf"\b({'|'.join(RELATIONS)})\b")
NUMBERS = {"one": 1, "a single": 1, "two": 2, "a pair of": 2, "three": 3}
COUNT = re.compile(rf"\b({'|'.join(NUMBERS)}) shapes?\b")
SHARE = re.compile(r"\b(all|two) of them (\w+)")
LOOKS = sorted([*SIZES, *COLOURS, *SAME_COLOUR, *KINDS, *SAME_KIND], key=len, reverse=True)
LOOK = re.compile(rf"\b({'|'.join(LOOKS)})\b")
SILENT = "a an and there is i can see picture of drawing simple someone drew in all just one them including shapes"
SILENT = set(SILENT.split()) | {"something", "nothing", "but", "with", "against", "on"}


@dataclass(frozen=True)
class Reading:
    """What a caption states: what it says of each shape it mentions, and of the scene."""

    mentions: tuple[frozenset[tuple[str, str | int]], ...]
    tint: str | None
    count: int | None
    share: tuple[str, str] | None
    relation: str | None
    alone: bool


def read(caption: str) -> Reading:
    """Read a caption, or fail on a word that is not understood."""
    assert caption[0].isupper()
    assert caption.endswith(".")
    text = caption[:-1].lower()
    found = {}
    for name, pattern in (("tint", GROUND), ("count", COUNT), ("share", SHARE), ("relation", RELATION)):
        found[name] = match = pattern.search(text)
        text = pattern.sub(" | " if name == "relation" else " ", text) if match else text
    # A mention ends where the next one begins: at a comma, at `and` before an article or noun, at a relation.
    parts = re.split(r",|\||\band (?=an? |something|\w+ shapes$)|\band (?=[\w -]+$)(?=.*\bdrawing\b)", text)
    mentions = tuple(filter(None, (mention for part in parts for mention in mentions_of(part))))
    return Reading(
        mentions,
        TINTS[found["tint"][1]] if found["tint"] else None,
        NUMBERS[found["count"][1]] if found["count"] else None,
        found["share"].groups() if found["share"] else None,
        found["relation"][1] if found["relation"] else None,
        "nothing but" in caption.lower() or "all in" in caption.lower(),
    )


def mentions_of(part: str) -> list[frozenset[tuple[str, str | int]]]:
    """Return what a part of a caption says of one shape, or of one shape for each colour where it lists colours."""
    places = set()
    for match in PLACE.finditer(part):
        words = [word for word in match.groups() if word]
        places |= {("row", ROWS[word]) for word in words if word in ROWS}
        places |= {("column", COLUMNS[word]) for word in words if word in COLUMNS}
        places |= {fact for word in words if word in ("middle", "centre") for fact in (("row", 1), ("column", 1))}
    part = PLACE.sub(" ", part)
    looks = LOOK.findall(part)
    unknown = set(LOOK.sub(" ", part).split()) - SILENT
    assert not unknown, f"not understood: {unknown} in {part!r}"
    facts = [
        ("size", SIZES[word])
        if word in SIZES
        else ("kind", SAME_KIND.get(word, word))
        if word in KINDS or word in SAME_KIND
        else ("colour", SAME_COLOUR.get(word, word))
        for word in looks
    ]
    colours = [fact for fact in facts if fact[0] == "colour"]
    if len(colours) > 1:
        assert facts == colours
        return [frozenset([colour]) for colour in colours]
    return [frozenset(facts) | places]


def is_true(reading: Reading, scene: Scene) -> bool:
    """Look every statement up in the scene: some choice of different shapes must satisfy all the mentions."""
    if reading.tint not in (None, scene.tint) or reading.count not in (None, len(scene.shapes)):
        return False
    if reading.alone and any(not any(states(mention, shape) for mention in reading.mentions) for shape in scene.shapes):
        return False
    if reading.share and not share_is_true(*reading.share, scene):
        return False
    return any(
        all(states(mention, shape) for mention, shape in zip(reading.mentions, chosen, strict=True))
        and (reading.relation is None or RELATIONS[reading.relation](*chosen))
        for chosen in permutations(scene.shapes, len(reading.mentions))
    )


def states(mention: frozenset[tuple[str, str | int]], shape: Shape) -> bool:
    return all(getattr(shape, name) == value for name, value in mention)


def share_is_true(how_many: str, what: str, scene: Scene) -> bool:
    kind = what.removesuffix("es") if what == "crosses" else what.removesuffix("s")
    having = sum(what == shape.colour or kind == shape.kind for shape in scene.shapes)
    return having == (len(scene.shapes) if how_many == "all" else 2)


def scenes(count: int, seed: int = 0) -> list[Scene]:
    generator = np.random.default_rng(seed)
    return [sample_scene(generator) for _ in range(count)]


def every_caption(of: list[Scene], seed: int = 1) -> list[list[str]]:
    generator = np.random.default_rng(seed)
    return [write_captions(scene, len(CAPTION_STYLES), generator) for scene in of]


def test_no_caption_states_a_false_fact():
    sampled = scenes(600)
    for scene, captions in zip(sampled, every_caption(sampled), strict=True):
        for caption in captions:
            assert is_true(read(caption), scene), f"{caption!r} is not true of {scene}"


def test_the_reader_of_these_tests_finds_captions_of_other_scenes_false():
    sampled = scenes(100)
    captions = every_caption(sampled)
    other = [is_true(read(text), sampled[i - 1]) for i, texts in enumerate(captions) for text in texts]
    assert np.mean(other) < 0.03


@pytest.mark.parametrize(
    "caption",
    [
        "A red disc.",
        "A blue circle above a red heart.",
        "Two shapes, two of them red.",
        "A blue circle at the upper left.",
        "A small circle.",
        "Nothing but a disc on a mint background.",
        "A cream card with something blue in the middle.",
        "Blue and green shapes.",
        "One shape, a red heart.",
    ],
)
def test_the_reader_of_these_tests_notices_each_sort_of_false_statement(caption):
    scene = Scene((Shape("blue", "circle", "large", 1, 1), Shape("red", "heart", "small", 0, 1)), "mint")
    assert not is_true(read(caption), scene)


def test_captions_of_a_scene_differ_in_what_they_name():
    for captions in every_caption(scenes(300)):
        readings = [read(caption) for caption in captions]
        stated = [replace(reading, mentions=tuple(sorted(map(sorted, reading.mentions)))) for reading in readings]
        assert len(set(map(str, stated))) == len(captions)


def test_no_caption_tells_everything():
    sampled = scenes(200)
    for scene, captions in zip(sampled, every_caption(sampled), strict=True):
        facts = 5 * len(scene.shapes) + 2
        for reading in map(read, captions):
            named = sum(map(len, reading.mentions)) + (reading.tint is not None) + (reading.count is not None)
            assert named < facts


def test_every_sort_of_fact_is_named_by_some_caption():
    readings = [read(caption) for captions in every_caption(scenes(200)) for caption in captions]
    assert {name for reading in readings for mention in reading.mentions for name, _ in mention} == {
        "size", "colour", "kind", "row", "column",
    }  # fmt: skip
    assert {reading.count for reading in readings} == {None, 1, 2, 3}
    assert {reading.relation for reading in readings} == {None, *RELATIONS}
    assert any(reading.share for reading in readings)


def test_words_vary():
    text = " ".join(caption.lower() for captions in every_caption(scenes(400)) for caption in captions)
    for word in [*SAME_COLOUR, *SAME_KIND, *SIZES, *TINTS]:
        assert re.search(rf"\b{word}\b", text), word


def test_articles_fit_the_word_that_follows():
    for captions in every_caption(scenes(200)):
        for caption in captions:
            assert not re.search(r"\b(?:a [aeiou]|an [^aeiou])", caption.lower()), caption


def test_the_same_seed_gives_the_same_scenes_captions_and_pictures_and_another_seed_others():
    assert scenes(20) == scenes(20) != scenes(20, seed=5)
    assert every_caption(scenes(20)) == every_caption(scenes(20)) != every_caption(scenes(20), seed=5)
    once, again = (np.stack([draw_scene(scene) for scene in scenes(20)]) for _ in range(2))
    assert np.array_equal(once, again)


def test_scenes_hold_one_to_three_shapes_that_differ_in_look_and_place():
    sampled = scenes(300)
    assert {len(scene.shapes) for scene in sampled} == {1, 2, 3}
    for scene in sampled:
        assert len({(shape.colour, shape.kind) for shape in scene.shapes}) == len(scene.shapes)
        assert len({(shape.row, shape.column) for shape in scene.shapes}) == len(scene.shapes)


def test_equal_pictures_are_rare():
    pictures = [draw_scene(scene).tobytes() for scene in scenes(1000)]
    assert len(set(pictures)) > 995


def test_a_picture_is_small_rgb():
    picture = draw_scene(scenes(1)[0])
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8


# Everyday values of the colours, only near those that are drawn.
SEEN_AS = {
    "red": (220, 30, 40), "orange": (255, 135, 30), "yellow": (250, 210, 40), "green": (50, 150, 60),
    "teal": (0, 160, 160), "blue": (30, 90, 220), "purple": (128, 60, 180), "pink": (250, 120, 180),
    "brown": (130, 80, 45), "black": (35, 35, 40),
}  # fmt: skip


def colours_seen(picture: np.ndarray) -> dict[str, np.ndarray]:
    """Return the middle (row, column) of the pixels near each colour, for colours on at least 12 pixels."""
    distance = {name: np.abs(picture.astype(int) - value).sum(axis=2) for name, value in SEEN_AS.items()}
    near = {name: np.argwhere(values < 45) for name, values in distance.items()}
    return {name: places.mean(axis=0) for name, places in near.items() if len(places) >= 12}


def test_a_picture_contains_each_stated_colour_at_the_stated_place_and_no_other():
    for scene in scenes(200):
        seen = colours_seen(draw_scene(scene))
        assert set(seen) == {shape.colour for shape in scene.shapes}
        for shape in scene.shapes:
            if [other.colour for other in scene.shapes].count(shape.colour) == 1:
                assert tuple((seen[shape.colour] * 3 // 64).astype(int)) == (shape.row, shape.column)


def painted(shape: Shape) -> int:
    picture = draw_scene(Scene((shape,), "cream"))
    return int((np.abs(picture.astype(int) - picture[0, 0]).sum(axis=2) > 100).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_size_paints_more(kind):
    shape = Shape("blue", kind, "small", 1, 1)
    assert painted(shape) * 1.5 < painted(replace(shape, size="medium")) < painted(replace(shape, size="large")) / 1.5


def test_kinds_are_drawn_differently():
    pictures = {kind: draw_scene(Scene((Shape("blue", kind, "large", 1, 1),), "cream")) for kind in KINDS}
    for one in KINDS:
        for other in KINDS:
            differing = (pictures[one] != pictures[other]).any(axis=2).sum()
            assert differing == 0 if one == other else differing > 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("cell", "direction"), [(0, -1.0), (2, 1.0)])
def test_shapes_stay_inside_the_picture(kind, cell, direction):
    shape = Shape("black", kind, "large", cell, cell, wobble=(direction, direction, 1.0, direction))
    picture = draw_scene(Scene((shape,), "cream")).astype(int)
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (border == picture[0, -1]).all()
