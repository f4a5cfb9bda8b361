"""Files that assign images to splits, in each form that circulates: what each says, by image id."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenalign.data.splits import SPLITS, UNUSED
from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import JSON_BYTES, file_size, read_json, read_text
from frozenalign.system.json_items import json_items

ASSIGNMENT_BYTES_AN_IMAGE = 512
# Karpathy's files hold the captions and their words as well. They are read image by image.
KARPATHY_BYTES, KARPATHY_BYTES_AN_IMAGE, KARPATHY_IMAGES = 512 << 20, 4 << 10, 1 << 20
BEGINNING_BYTES = 4096
REMEDY = f"map image ids to {', '.join(SPLITS)} or {UNUSED}"
COLUMNS = ("image_id", "split")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
# COCO's ids are `cocoid`; `imgid` only counts the images. Other sets of Karpathy's have no ids of their own.
KARPATHY_IDS = ("cocoid",), ("filename", "imgid")
# His name of a split, and that of this project: the rest of COCO's validation images belongs to training.
KARPATHY_SPLITS = {name: name for name in SPLITS} | {"restval": "train"}


@dataclass(frozen=True)
class Assigned:
    """The split of each image id; field: what the file calls these ids, None if it has one kind only."""

    splits: dict[str, str]
    field: str | None = None


def read_assigned(path: str | Path, images: int) -> list[Assigned]:
    """Read a file of any form, for a data set of so many images; of several kinds of ids in it, all are returned."""
    size = file_size(path, REMEDY)
    read = next(read for recognises, read in FORMS if recognises(path))
    return read(path, images, size)


def _read_mapping(path: str | Path, images: int, size: int) -> list[Assigned]:
    """Read a JSON object, image id -> split."""
    content = read_json(path, JSON_BYTES + ASSIGNMENT_BYTES_AN_IMAGE * images, REMEDY)
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a JSON object: {REMEDY}")
    for image_id, name in content.items():
        _refuse_unknown(name, f"{path}: image {quoted(image_id)}")
    return [Assigned(content)]


def _is_table(path: str | Path) -> bool:
    return Path(path).suffix.lower() in DELIMITERS


def _read_table(path: str | Path, images: int, size: int) -> list[Assigned]:
    """Read a table with a column image_id and a column split; a line for each caption is one for each image."""
    text = read_text(path, JSON_BYTES + ASSIGNMENT_BYTES_AN_IMAGE * images, REMEDY)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[Path(path).suffix.lower()], strict=True)
    found: dict[str, str] = {}
    try:
        header = next(rows, [])
        if any(header.count(column) != 1 for column in COLUMNS):
            raise UserError(f"{path} begins with {quoted(header)}: name the columns {' and '.join(COLUMNS)} there")
        image_id, split = map(header.index, COLUMNS)
        for row in filter(None, rows):
            where = f"{path}, line {rows.line_num}"
            if len(row) != len(header):
                raise UserError(f"{where} has {len(row)} columns where the first line has {len(header)}: correct it")
            _refuse_unknown(row[split], f"{where}: image {quoted(row[image_id])}")
            _add(found, row[image_id], row[split], where)
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}, cannot be read as a table ({error}): correct it") from error
    return [Assigned(found)]


def _is_karpathy(path: str | Path) -> bool:
    """Return whether a file begins as `dataset_coco.json` does: a mapping of ids to splits has no such list."""
    with Path(path).open("rb") as stream:
        return re.search(rb'^[^\[]*"images"\s*:\s*\[\s*\{', stream.read(BEGINNING_BYTES)) is not None


def _read_karpathy(path: str | Path, images: int, size: int) -> list[Assigned]:
    """Read Karpathy's own file, whose `restval` belongs to training: with COCO's ids, or else by each kind of id."""
    limit = KARPATHY_BYTES + KARPATHY_BYTES_AN_IMAGE * images
    if size > limit:
        raise UserError(f"{path} has {size} bytes where at most {limit} are read: {REMEDY}")
    fields: list[str] = []
    found: dict[str, dict[str, str]] = {}
    for where, image in _karpathy_images(path):
        if not found:
            fields = _id_fields(image, where)
            found = {field: {} for field in fields}
        for field in fields:
            if type(image.get(field)) not in (int, str):
                raise UserError(f"{where}: {field} is {quoted(image.get(field))}: write the image's id there")
            _add(found[field], str(image[field]), KARPATHY_SPLITS[image["split"]], where)
    return [Assigned(splits, field) for field, splits in found.items()] or [Assigned({})]


def _karpathy_images(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each image with its place in the file; its split is one that Karpathy's files name."""
    for i, image in enumerate(json_items(path, "images")):
        where = f"{path}: images[{i}]"
        if i == KARPATHY_IMAGES:
            raise UserError(f"{path} has more than {KARPATHY_IMAGES} images: {REMEDY}")
        split = image.get("split") if isinstance(image, dict) else None
        if not isinstance(split, str) or split not in KARPATHY_SPLITS:
            raise UserError(f"{where} is assigned to {quoted(split)}: write {', '.join(KARPATHY_SPLITS)} as its split")
        yield where, image


def _id_fields(image: dict[str, Any], where: str) -> list[str]:
    for fields in KARPATHY_IDS:
        if there := [field for field in fields if field in image]:
            return there
    raise UserError(f"{where} has none of cocoid, filename and imgid: write the image's id there")


def _add(found: dict[str, str], image_id: str, name: str, where: str) -> None:
    """Note the split of an image; one that has another already is refused."""
    if found.setdefault(image_id, name) != name:
        raise UserError(
            f"{where}: image {quoted(image_id)} is assigned to {name} and before to {found[image_id]}: leave one out"
        )


def _refuse_unknown(name: Any, where: str) -> None:
    if not isinstance(name, str) or name not in (*SPLITS, UNUSED):
        raise UserError(f"{where} is assigned to {quoted(name)}: {REMEDY}")


# The first that recognises a file reads it.
Form = tuple[Callable[[str | Path], bool], Callable[[str | Path, int, int], list[Assigned]]]
FORMS: tuple[Form, ...] = (
    (_is_table, _read_table),
    (_is_karpathy, _read_karpathy),
    (lambda path: True, _read_mapping),
)
