"""What captions, ids and file names have to be; whatever is wrong is one sentence with file and place."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from frozenalign.data.captions.pairs import ListedCaptions
from frozenalign.data.ids import ID_LENGTH, is_text
from frozenalign.system.errors import UserError, quoted

CAPTION_CHARACTERS = 100_000
NAME_CHARACTERS = 4_000
ADDRESS = re.compile(r"https?://")
DOWNLOAD = (
    "download the pictures, for example with img2dataset, and set `images` and `captions` to the folder of tars that "
    "it writes"
)
# An absolute path, also of Windows, or a step upwards.
LEADS_OUT = re.compile(r"[\\/]|[A-Za-z]:[\\/]|(.*[\\/])?\.\.([\\/]|$)", re.DOTALL)


def checked(listed: ListedCaptions, pictures: Path | None = None) -> ListedCaptions:
    """Return what a file lists with ids as text, file names below the folder of pictures, and every caption usable."""
    path = listed.path
    if not listed.captions:
        raise UserError(f"{path} lists no caption: name another file or folder as `captions`")
    known = as_ids([image for image, _ in listed.images], lambda i: f"{path}: {listed.where_image(i)}", "image id")
    files = [
        _file_name(name, lambda i=i: f"{path}: {listed.where_image(i)}", pictures)
        for i, (_, name) in enumerate(listed.images)
    ]
    image_ids = as_ids(listed.image_ids, lambda i: f"{path}: {listed.where(i)}", "image id")
    _refuse_unknown_images(listed, image_ids, set(known))
    _refuse_unusable_captions(listed)
    if listed.caption_ids is None:
        caption_ids = numbered(image_ids)
    else:
        caption_ids = as_ids(listed.caption_ids, lambda i: f"{path}: {listed.where(i)}", "caption id")
    images = list(zip(known, files, strict=True))
    return replace(listed, images=images, image_ids=image_ids, caption_ids=caption_ids)


def as_ids(values: Sequence[Any], where: Callable[[int], str], kind: str) -> list[str]:
    """Return ids as text, given integers or text.

    where: file and place of value i; kind: what it is, both for messages.
    """
    ids = [str(value) if type(value) is int else value for value in values]
    for i, name in enumerate(ids):
        if type(name) is not str or not name or not is_text(name) or "\0" in name:
            raise UserError(f"{where(i)}: the {kind} is {quoted(name)}: write an integer, or text of whole characters")
        if len(name) > ID_LENGTH:
            raise UserError(f"{where(i)}: the {kind} has {len(name)} characters where at most {ID_LENGTH} are allowed")
    return ids


def numbered(image_ids: Sequence[str]) -> list[str]:
    """Return a caption id for each caption, `image#n`, numbered within its image from 0."""
    counts: Counter[str] = Counter()
    ids = []
    for image_id in image_ids:
        ids.append(f"{image_id}#{counts[image_id]}")
        counts[image_id] += 1
    return ids


def _refuse_unknown_images(listed: ListedCaptions, image_ids: Sequence[str], known: set[str]) -> None:
    if known.issuperset(image_ids):
        return
    unknown = [i for i, image_id in enumerate(image_ids) if image_id not in known]
    raise UserError(
        f"{listed.path}: {listed.where(unknown[0])} is of image {quoted(image_ids[unknown[0]])}, which the file does "
        f"not list ({len(unknown)} of {len(image_ids)} captions are of such images): add the images, or leave the "
        "captions out"
    )


def _refuse_unusable_captions(listed: ListedCaptions) -> None:
    for i, caption in enumerate(listed.captions):
        if not isinstance(caption, str) or not caption.strip():
            problem = "empty" if isinstance(caption, str) or caption is None else f"{quoted(caption)}, not text"
            raise UserError(f"{listed.path}: {listed.where(i)}: the caption is {problem}: write one, or leave it out")
        if not is_text(caption):
            raise UserError(f"{listed.path}: {listed.where(i)}: the caption holds half a character: {quoted(caption)}")
        if len(caption) > CAPTION_CHARACTERS:
            raise UserError(
                f"{listed.path}: {listed.where(i)}: the caption has {len(caption)} characters where at most "
                f"{CAPTION_CHARACTERS} are read: shorten it"
            )


def _file_name(name: Any, where: Callable[[], str], pictures: Path | None) -> str:
    """Return the name of a picture as a path from the folder of pictures."""
    if not isinstance(name, str) or not name or not is_text(name) or "\0" in name or len(name) > NAME_CHARACTERS:
        raise UserError(f"{where()}: the file of the picture is {quoted(name)}: write its path as text")
    if ADDRESS.match(name):
        raise UserError(f"{where()} names an address ({quoted(name)}), not a picture on this disk: {DOWNLOAD}")
    if pictures is not None and name.startswith("/"):
        name = _below(name, pictures)
    if LEADS_OUT.match(name):
        raise UserError(
            f"{where()}: the file {quoted(name)} leads out of the folder of pictures: write its path from that folder, "
            "or name a folder that holds it as `images`"
        )
    return name


def _below(name: str, folder: Path) -> str:
    """Return an absolute path as one from the folder, if it is below it."""
    for start in (folder.absolute(), folder.resolve()):
        if Path(name).is_relative_to(start):
            return Path(name).relative_to(start).as_posix()
    return name
