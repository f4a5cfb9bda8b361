"""Captions that come one a row, each with the file of its picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frozenalign.data.captions.checks import as_ids
from frozenalign.data.captions.pairs import ListedCaptions


def listed_rows(
    path: Path,
    files: Sequence[Any],
    captions: Sequence[Any],
    where: Callable[[int], str],
    image_ids: Sequence[Any] | None = None,
    caption_ids: Sequence[Any] | None = None,
) -> ListedCaptions:
    """Return rows as what a file lists; all arguments are of N rows.

    where: place of row i in the file. The file of a picture is its id where there are none. Caption ids that repeat are
    taken as numbers within the image, as in Flickr30k, and become `image#number`.
    """
    named = [str(file) for file in files] if image_ids is None else image_ids
    ids = as_ids(named, lambda i: f"{path}: {where(i)}", "image id" if image_ids else "file of the picture")
    if caption_ids is not None:
        caption_ids = as_ids(caption_ids, lambda i: f"{path}: {where(i)}", "caption id")
        if len(set(caption_ids)) < len(caption_ids):
            caption_ids = [f"{image_id}#{number}" for image_id, number in zip(ids, caption_ids, strict=True)]
    first: dict[tuple[str, str], int] = {}
    for i, image in enumerate(zip(ids, map(str, files), strict=True)):
        first.setdefault(image, i)
    rows = list(first.values())
    images = [(ids[i], files[i]) for i in rows]
    return ListedCaptions(path, images, ids, caption_ids, captions, where, lambda i: where(rows[i]))
