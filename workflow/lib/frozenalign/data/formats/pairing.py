"""Which image each text row belongs to: ids and captions brought together from metadata and embedding files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frozenalign.data.formats.opening import explained
from frozenalign.data.formats.registry import TABLE_FORMATS
from frozenalign.data.formats.sources import Source
from frozenalign.data.formats.stored_rows import StoredRows, id_name, ids_as_text
from frozenalign.system.errors import UserError, quoted

CAPTIONS, CAPTION_IDS = ("captions", "caption", "text"), ("caption_ids", "caption_id")
PATHS = ("image_path", "file_name")
# What other programs write for a value that is missing.
MISSING = (None, "", "nan", "NaN")
_COCO_FILE = re.compile(r"(?:.*/)?COCO_[a-z]+\d{4}_(\d{12})(?:\.\w+)?")


def read_columns(source: Source, limit: int) -> dict[str, Any]:
    """Return the metadata of N pairs by name, the files of a source one after the other.

    limit: the most bytes of their text. The names are those of the default form: `image_ids` as text, `captions`,
    `caption_ids`, `image_files` and `unique_image_ids`; those that the files lack are left out.
    """
    parts = [explained(path, TABLE_FORMATS[path.suffix], path, limit) for path in source.files]
    columns = parts[0]
    for path, part in zip(source.files[1:], parts[1:], strict=True):
        if part.keys() != columns.keys() or not all(isinstance(values, list) for values in part.values()):
            raise UserError(f"{path} has other columns than {source.files[0]}: write all shards alike")
        columns = {name: values + part[name] for name, values in columns.items()}
    return _default_names(columns, source.files[0])


def pairs_metadata(
    images: StoredRows, texts: StoredRows, columns: Mapping[str, Any] | None, where: Path | None
) -> dict[str, Any]:
    """Return the metadata of the default form for opened rows.

    columns: what `read_columns` returned of the file `where`, if there is one. Without ids there, they are those of the
    texts' file, or of the images' file if it has one row a pair. Ids that an images' file has of other rows are
    `unique_image_ids`.
    """
    metadata = dict(columns or {})
    own, of_texts = (rows.ids() if rows.ids else None for rows in (images, texts))
    ids = metadata.get("image_ids") or of_texts or (own if images.rows == texts.rows else None)
    if not ids:
        raise UserError(
            f"{where or texts.path} has no image ids: name a file with one `image_id` for each text row as `metadata`"
        )
    counted = {"image ids": ids, "captions": metadata.get("captions"), "caption ids": metadata.get("caption_ids")}
    _refuse_other_counts(counted, texts, where or images.path)
    metadata["image_ids"] = coco_ids(ids)
    if of_texts and coco_ids(of_texts) != metadata["image_ids"]:
        _refuse_different(ids, of_texts, texts, where)
    if isinstance(files := metadata.get("image_files"), dict):
        metadata["image_files"] = dict(zip(coco_ids(list(files)), files.values(), strict=True))
    unique = metadata.get("unique_image_ids") or own
    if unique and coco_ids(unique) != metadata["image_ids"]:
        metadata["unique_image_ids"] = _unique(coco_ids(unique), metadata["image_ids"], images, where)
    listed = metadata.get("unique_image_ids", metadata["image_ids"])
    if len(listed) != images.rows:
        raise UserError(
            f"{images.path} has {images.rows} rows for {len(listed)} image ids: write one image row for each text row, "
            "or one for each image and its id beside it, in a column or array `image_id`, or in `unique_image_ids`"
        )
    return metadata


def coco_ids(ids: Sequence[str]) -> list[str]:
    """Return the numbers in COCO's file names, if all ids are such names of different numbers, else the ids.

    `COCO_train2014_000000000123.jpg` shows image 123, whichever folder it lies in.
    """
    matches = [_COCO_FILE.fullmatch(each) for each in ids]
    if not all(matches):
        return list(ids)
    numbers = [str(int(match[1])) for match in matches]
    return numbers if len(set(numbers)) == len(set(ids)) else list(ids)


def _default_names(columns: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return columns under the names of the default form."""
    found = {"image_files": columns["image_files"]} if columns.get("image_files") else {}
    name = id_name(list(columns))
    if name is not None:
        found["image_ids"] = ids_as_text(_listed(columns[name], f"{path}: {name}"), f"{path}: {name}")
        paths = next((columns[each] for each in PATHS if each in columns), None)
        if paths and "image_files" not in found and all(isinstance(each, str) and each for each in paths):
            found["image_files"] = dict(zip(found["image_ids"], paths, strict=True))
    if columns.get("unique_image_ids") is not None:
        where = f"{path}: unique_image_ids"
        found["unique_image_ids"] = ids_as_text(_listed(columns["unique_image_ids"], where), where)
    if captions := next((each for each in CAPTIONS if each in columns), None):
        found["captions"] = _captions(_listed(columns[captions], f"{path}: {captions}"), f"{path}: {captions}")
    if caption_ids := next((each for each in CAPTION_IDS if each in columns), None):
        found["caption_ids"] = [str(each) for each in _listed(columns[caption_ids], f"{path}: {caption_ids}")]
    return found


def _listed(values: Any, where: str) -> list[Any]:
    if not isinstance(values, list):
        raise UserError(f"{where} must be a list with one entry for each row")
    return values


def _captions(values: list[Any], where: str) -> list[str]:
    for row, value in enumerate(values):
        if value in MISSING or not isinstance(value, str) or not value.strip():
            raise UserError(
                f"{where} of row {row} is {quoted(value)}: write every caption as text, or leave its pair out, "
                "embedding included"
            )
    return values


def _refuse_other_counts(counted: Mapping[str, Sequence[str] | None], texts: StoredRows, where: Path) -> None:
    for what, values in counted.items():
        if values is not None and len(values) != texts.rows:
            raise UserError(
                f"{texts.path} has {texts.rows} rows but {where} lists {len(values)} {what}: write one for each text "
                "row, in their order"
            )


def _refuse_different(ids: Sequence[str], others: Sequence[str], texts: StoredRows, where: Path | None) -> None:
    row = next(row for row, (one, other) in enumerate(zip(ids, others, strict=True)) if one != other)
    raise UserError(
        f"row {row} belongs to image {quoted(others[row])} in {texts.path} but to {quoted(ids[row])} in {where}: bring "
        "both into one order, or leave the ids of one of them out"
    )


def _unique(unique: Sequence[str], ids: Sequence[str], images: StoredRows, where: Path | None) -> list[str]:
    """Return the ids of the image rows; a repeated one, or a pair without an image row, is refused."""
    known = set(unique)
    if len(known) < len(unique):
        seen: set[str] = set()
        twice = next(each for each in unique if each in seen or seen.add(each))
        raise UserError(
            f"{images.path} has several rows of image {quoted(twice)}, but not one for each text row: write one row "
            "for each image, or one for each text row in the order of the texts"
        )
    unknown = next((row for row, each in enumerate(ids) if each not in known), None)
    if unknown is not None:
        raise UserError(
            f"row {unknown} of {where or 'the texts'} belongs to image {quoted(ids[unknown])}, of which {images.path} "
            "has no row: add it, or leave the pair out"
        )
    return list(unique)
