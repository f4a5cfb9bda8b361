"""Pictures with their captions: as one file lists them, and as the pairs of a data set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ListedCaptions:
    """What one file or folder lists, unchecked: any value of it may be of any type.

    images: (n,) id and file of each image.
    image_ids, caption_ids, captions: (N,) of each caption. caption_ids may be None: captions are then numbered within
    their image. where: place in the file, for messages, of caption i; where_image: the same of image i.
    """

    path: Path
    images: Sequence[tuple[Any, Any]]
    image_ids: Sequence[Any]
    caption_ids: Sequence[Any] | None
    captions: Sequence[Any]
    where: Callable[[int], str]
    where_image: Callable[[int], str]


@dataclass(frozen=True)
class CaptionedPictures:
    """Pictures with their captions, pairs in the order of image id, then caption id: numbers by value, text by text.

    image_ids, caption_ids, captions: (N,) of each pair. image_files: path of each image from the folder of pictures, by
    image id, in the order of the pairs.
    """

    image_ids: list[str]
    caption_ids: list[str]
    captions: list[str]
    image_files: dict[str, str]
