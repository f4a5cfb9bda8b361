"""The files of an encoded set: rows, metadata and encoding.json, all of them or none."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.data.captions.pairs import CaptionedPictures
from frozenalign.data.made_files import ROW_FILES
from frozenalign.encoders.merging import Encoded, write_rows
from frozenalign.encoders.places import ENCODED, ENCODING
from frozenalign.encoders.record import encoding_record, json_text
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, replacing

REMEDY = "move them away, or choose another folder"


def write_set(
    folder: Path, pictures: Path, captioned: CaptionedPictures, images: Encoded, texts: Encoded
) -> dict[str, Any]:
    """Write the rows of a set with its metadata, and return the content of encoding.json, written beside them.

    pictures: the folder that was encoded. Pairs of pictures that could not be read are left out. Files that no merge
    has written are refused.
    """
    kept = np.array([image_id not in images.refused for image_id in captioned.image_ids])
    if not kept.any():
        raise UserError(
            f"none of the {len(captioned.image_files)} pictures in {pictures} can be read: check the folder"
        )
    names = (*ROW_FILES, ENCODING)
    with ENCODED.replaced(folder, REMEDY) as begin, ExitStack() as written:
        paths = {name: written.enter_context(replacing(folder / name)) for name in names}
        write_rows(paths[ROW_FILES[0]], images, np.ones(images.rows, bool))
        write_rows(paths[ROW_FILES[1]], texts, kept)
        metadata = _metadata(captioned, kept, _prefix(pictures, folder))
        paths[ROW_FILES[2]].write_text(json_text(metadata), encoding="utf-8")
        hashes = {name: file_hash(paths[name]) for name in ROW_FILES}
        record = encoding_record(images, texts, captioned.captions, int(kept.sum()), hashes)
        paths[ENCODING].write_text(json_text(record), encoding="utf-8")
        begin(hashes | {ENCODING: file_hash(paths[ENCODING])})
    return record


def _metadata(captioned: CaptionedPictures, kept: np.ndarray, prefix: str) -> dict[str, Any]:
    """Return the metadata of the pairs that are kept, and of their pictures."""
    pairs = np.flatnonzero(kept).tolist()
    image_ids = [captioned.image_ids[pair] for pair in pairs]
    unique = list(dict.fromkeys(image_ids))
    return {
        "image_ids": image_ids,
        "unique_image_ids": unique,
        "captions": [captioned.captions[pair] for pair in pairs],
        "caption_ids": [captioned.caption_ids[pair] for pair in pairs],
        "image_files": {image_id: prefix + captioned.image_files[image_id] for image_id in unique},
    }


def _prefix(pictures: Path, folder: Path) -> str:
    """Return what makes a picture's path one below the folder of the set, where the pictures lie in it."""
    if not pictures.absolute().is_relative_to(folder.absolute()):
        return ""
    within = pictures.absolute().relative_to(folder.absolute()).as_posix()
    return "" if within == "." else f"{within}/"
