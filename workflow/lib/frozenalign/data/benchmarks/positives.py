"""Several positives of a query: which images each caption describes, and which captions describe each image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import read_json

POSITIVES_BYTES = 256 << 20
DIRECTIONS = ("caption_to_image", "image_to_caption")


@dataclass(frozen=True)
class Positives:
    """The positives of queries by id: image ids of each caption, caption ids of each image. What is no key is no query.

    as_listed: whether R, the number of positives of a query, counts those that the evaluated set lacks, as a benchmark
    with fixed lists does. folds: the image ids of parts that are evaluated alone, whose recalls are averaged.
    """

    images: Mapping[str, frozenset[str]]
    captions: Mapping[str, frozenset[str]]
    as_listed: bool = False
    folds: tuple[frozenset[str], ...] = ()


def read_positives(path: Path) -> Positives:
    """Read a JSON object of image ids by caption id, or one of two such objects, `caption_to_image` and its reverse.

    With the first alone, the positives of an image are the captions that list it.
    """
    content = read_json(path, POSITIVES_BYTES, "write the image ids of each caption id there")
    if isinstance(content, Mapping) and content and content.keys() <= set(DIRECTIONS):
        if missing := [name for name in DIRECTIONS if name not in content]:
            raise UserError(f"{path} has no {missing[0]}: write both directions, or image ids by caption id alone")
        images, captions = (_lists(content[name], path, f"{name} of ") for name in DIRECTIONS)
        return Positives(images, captions)
    images = _lists(content, path, "caption ")
    return Positives(images, reverse(images))


def reverse(listed: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return the keys that list each value, by value."""
    found: dict[str, list[str]] = {}
    for key, values in listed.items():
        for value in values:
            found.setdefault(value, []).append(key)
    return {value: frozenset(keys) for value, keys in found.items()}


def _lists(content: Any, path: Path, kind: str) -> dict[str, frozenset[str]]:
    """Return ids by id; anything but a list of at least one whole number or text for each is a UserError."""
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds {quoted(content)}: write a JSON object of image ids by caption id")
    for key, values in content.items():
        if not isinstance(values, list) or not values or not {type(value) for value in values} <= {int, str}:
            raise UserError(f"{path}: {kind}{quoted(key)} has {quoted(values)}: write a list of at least one id")
    return {key: frozenset(map(str, values)) for key, values in content.items()}
