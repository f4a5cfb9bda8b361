"""Small benchmarks on scenes that the demo does not show: hard negatives, classes, and captions of the same words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from frozenalign.demo.samples import SHOWN, describe_scenes, sample_scenes
from frozenalign.demo.scenes import CAPTION_STYLES, COLOURS, KINDS, Scene

TEMPLATES = ("A {}.", "A picture of a {}.", "There is a {}.", "Someone drew a {}.")


def hard_negatives(scenes: Mapping[str, Scene], seed: int) -> dict[str, dict[str, str]]:
    """Return rows in the form of SugarCrepe, by id: file, caption, and the caption of a scene with other colours.

    Two shapes of different colours exchange theirs; a scene without such takes a colour for one that it lacks.
    """
    generator = np.random.default_rng(seed)
    rows = {}
    for name, scene in scenes.items():
        wording = int(generator.integers(2**32))
        caption, negative = (_in_detail(each, wording) for each in (scene, _recoloured(scene, generator)))
        rows[str(len(rows))] = {"filename": name, "caption": caption, "negative_caption": negative}
    return rows


def kinds_of(scenes: Mapping[str, Scene]) -> dict[str, object]:
    """Return the classes, templates and labels of the scenes with one shape, which is the class."""
    alone = {name: scene.shapes[0].kind for name, scene in scenes.items() if len(scene.shapes) == 1}
    return {"classes": list(KINDS), "templates": list(TEMPLATES), "images": alone}


def same_words(seed: int, images: int, captions: int) -> dict[str, list[int]]:
    """Return the positives of the demo's captions, image ids by caption id: those of all captions of its words."""
    scenes = sample_scenes(seed, SHOWN, images)
    texts = describe_scenes(seed, SHOWN, scenes, captions)
    listed: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        listed.setdefault(text, []).append(number // captions + 1)
    return {str(number): sorted(set(listed[text])) for number, text in enumerate(texts, 1)}


def _in_detail(scene: Scene, wording: int) -> str:
    """Return a caption with size, colour and kind of every shape; one number gives one choice of words."""
    text = CAPTION_STYLES[0](scene, np.random.default_rng(wording))
    return f"{text[0].upper()}{text[1:]}."


def _recoloured(scene: Scene, generator: np.random.Generator) -> Scene:
    shapes = list(scene.shapes)
    unlike = [place for place in range(1, len(shapes)) if _differ(shapes, place)]
    if unlike:
        first, second = shapes[0], shapes[unlike[0]]
        shapes[0], shapes[unlike[0]] = replace(first, colour=second.colour), replace(second, colour=first.colour)
    else:
        others = [colour for colour in COLOURS if colour not in {shape.colour for shape in shapes}]
        shapes[0] = replace(shapes[0], colour=others[int(generator.integers(len(others)))])
    return replace(scene, shapes=tuple(shapes))


def _differ(shapes: Sequence, place: int) -> bool:
    """Return whether the first shape and another differ in colour and kind, so that an exchange makes another scene."""
    return shapes[0].colour != shapes[place].colour and shapes[0].kind != shapes[place].kind
