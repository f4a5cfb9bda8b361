"""Labelled pictures with the names of their classes and templates of prompts, for zero-shot classification."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frozenalign.data.benchmarks.items import FORMAT, ROWS_FILE, BenchmarkItems, numbered
from frozenalign.data.benchmarks.registry import register_benchmark_file
from frozenalign.data.ids import is_text
from frozenalign.data.picture_files import SUFFIXES
from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import read_json

FILE_BYTES = 256 << 20
# CLIP's own templates have {}, those of CLIP_benchmark {c}.
PLACE = re.compile(r"\{c?\}")
WRITE = (
    'write {"classes": {LABEL: NAME, …}, "templates": ["a photo of a {}.", …]} and, unless each label is a folder of '
    'pictures, "images": {PATH: LABEL, …}'
)


@register_benchmark_file("zero_shot_classification")
def labelled_pictures(path: Path, pictures: Path) -> BenchmarkItems:
    """Read a JSON object with `classes`, `templates` and `images`; without the last, labels are folders of pictures.

    classes: the name of each class by its label, or a list of names, whose labels are the names or numbers from 0.
    """
    content = read_json(path, FILE_BYTES, WRITE)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds {quoted(content)}: {WRITE}")
    names, places = _classes(content.get("classes"), path)
    templates = _templates(content.get("templates"), path)
    labels = _labels(content["images"], path) if "images" in content else _in_folders(pictures, places)
    for file, label in labels.items():
        if label not in places:
            raise UserError(
                f"{path}: {quoted(file)} has the label {quoted(label)}, which `classes` lacks: add it there"
            )
    if not labels:
        raise UserError(f"{pictures} has no pictures in folders named after the labels of {path}: {WRITE}")
    prompts = [[PLACE.sub(lambda _, name=name: name, template) for template in templates] for name in names]
    texts = numbered([text for of_class in prompts for text in of_class])
    meaning = {
        "format": FORMAT,
        "kind": "zero_shot_classification",
        "classes": names,
        "labels": [places[label] for label in labels.values()],
        "prompts": [[texts[text] for text in of_class] for of_class in prompts],
    }
    return BenchmarkItems({file: file for file in labels}, list(texts), ROWS_FILE, meaning)


def _classes(content: Any, path: Path) -> tuple[list[str], dict[Any, int]]:
    """Return the names of the classes, and the number of each by its label. Classes of one name need other labels."""
    names = list(content.values()) if isinstance(content, Mapping) else content
    if not _are_texts(names) or len(names) < 2:
        raise UserError(f"{path}: classes: found {quoted(content)}: {WRITE}")
    if isinstance(content, Mapping):
        return names, numbered(list(content))
    alone = {name: number for number, name in enumerate(names) if names.count(name) == 1}
    return list(names), alone | {number: number for number in range(len(names))}


def _templates(content: Any, path: Path) -> list[str]:
    if not _are_texts(content):
        raise UserError(f"{path}: templates: found {quoted(content)}: {WRITE}")
    for template in content:
        if not PLACE.search(template):
            raise UserError(f"{path}: the template {quoted(template)} has no {{}} for the name of the class: add it")
    return list(content)


def _labels(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, Mapping) or not content or not {type(label) for label in content.values()} <= {int, str}:
        raise UserError(f"{path}: images: found {quoted(content)}: {WRITE}")
    return dict(content)


def _in_folders(pictures: Path, places: Mapping[Any, int]) -> dict[str, Any]:
    """Return the label of each picture in the folders that are named after the labels."""
    found = {}
    for label in (label for label in places if isinstance(label, str)):
        if Path(label).name != label:
            raise UserError(f"the label {quoted(label)} is no name of a folder in {pictures}: {WRITE}")
        for file in sorted((pictures / label).rglob("*")):
            if file.suffix.lower().removeprefix(".") in SUFFIXES:
                found[file.relative_to(pictures).as_posix()] = label
    return found


def _are_texts(content: Any) -> bool:
    """Return whether this is a list of at least one text, none of them empty."""
    return (
        isinstance(content, Sequence)
        and not isinstance(content, str)
        and bool(content)
        and all(is_text(value) and value.strip() for value in content)
    )
