"""The captions of several files as the ordered pairs of one data set."""

import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.data.captions.pairs import CaptionedPictures, ListedCaptions
from frozenalign.data.picture_names import located
from frozenalign.system.errors import UserError, quoted

logger = logging.getLogger(__name__)


def gathered(parts: Sequence[ListedCaptions], pictures: Path | None = None) -> CaptionedPictures:
    """Return the pairs of checked files in their order; images without captions are left out and counted."""
    files = _image_files(parts)
    _refuse_repeated_captions(parts)
    image_ids = [image_id for part in parts for image_id in part.image_ids]
    caption_ids = [caption_id for part in parts for caption_id in part.caption_ids]
    captions = [caption for part in parts for caption in part.captions]
    order = _order(image_ids, caption_ids)
    used = dict.fromkeys(image_ids[i] for i in order)
    if without := len(files) - len(used):
        logger.warning("%d of %d pictures have no caption and are left out", without, len(files))
    logger.info("%d captions of %d pictures", len(order), len(used))
    used_files = {image_id: files[image_id] for image_id in used}
    return CaptionedPictures(
        [image_ids[i] for i in order],
        [caption_ids[i] for i in order],
        [captions[i] for i in order],
        used_files if pictures is None else located(pictures, used_files),
    )


def _image_files(parts: Sequence[ListedCaptions]) -> dict[str, str]:
    """Return the file of each image, refusing an id with two."""
    files: dict[str, str] = {}
    for part in parts:
        for i, (image_id, file) in enumerate(part.images):
            if files.setdefault(image_id, file) != file:
                raise UserError(
                    f"{part.path}: {part.where_image(i)}: the image id {quoted(image_id)} is that of {quoted(file)}, "
                    f"and of {quoted(files[image_id])} elsewhere{_in_others(parts)}: give each picture an id of its own"
                )
    return files


def _refuse_repeated_captions(parts: Sequence[ListedCaptions]) -> None:
    ids = {caption_id for part in parts for caption_id in part.caption_ids}
    if len(ids) == sum(len(part.caption_ids) for part in parts):
        return
    first: dict[str, str] = {}
    for part in parts:
        for i, caption_id in enumerate(part.caption_ids):
            place = f"{part.path}: {part.where(i)}"
            if caption_id in first:
                raise UserError(
                    f"the caption id {quoted(caption_id)} stands twice, in {first[caption_id]} and in {place}: give "
                    "each caption an id of its own, and name each file once"
                )
            first[caption_id] = place


def _in_others(parts: Sequence[ListedCaptions]) -> str:
    return f" in {', '.join(str(part.path) for part in parts)}" if len(parts) > 1 else ""


def _order(image_ids: Sequence[str], caption_ids: Sequence[str]) -> list[int]:
    """Return the pairs in the order of image id, then caption id."""
    rank = {image_id: place for place, image_id in enumerate(sorted(set(image_ids), key=_by_value))}
    keys = [
        (rank[image_id], *_by_value(caption_id.removeprefix(f"{image_id}#")))
        for image_id, caption_id in zip(image_ids, caption_ids, strict=True)
    ]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _by_value(name: str) -> tuple[int, int, str]:
    """Return the key by which ids are sorted: numbers by value, then text."""
    if name.isascii() and name.removeprefix("-").isdigit():
        return 0, int(name), name
    return 1, 0, name
