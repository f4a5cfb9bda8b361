"""What is shown of the rows of a gallery: ids, captions and pictures."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.data.embeddings import Metadata
from frozenalign.data.picture_files import UnreadablePicture
from frozenalign.data.pictures import picture_source
from frozenalign.data.splits import SplitIndex
from frozenalign.data.thumbnails import small_version

SHOWN_CAPTIONS = 10
NOT_NAMED = "without an entry in `image_files`"


@dataclass(frozen=True)
class GalleryItems:
    """N images with their M captions.

    image_ids: (N,) text. captions: (M,), None where the set has no captions. text_image: (M,) the image of each.
    image_files: names of pictures by image id. folder: the folder that no picture leads out of. start: where names
    start from, if not there.
    """

    image_ids: Sequence[str]
    captions: Sequence[str] | None
    text_image: np.ndarray
    image_files: Mapping[str, str]
    folder: Path
    start: Path

    @classmethod
    def of_split(cls, metadata: Metadata, split: SplitIndex, data_dir: Path, pictures: Path | None) -> "GalleryItems":
        """Return the items of a split. pictures: the folder of the pictures, if it is not that of the data."""
        image_ids = np.empty(len(split.image_rows), dtype=object)
        image_ids[split.text_image] = metadata.image_ids[split.text_rows]
        captions = metadata.captions and [metadata.captions[row] for row in split.text_rows]
        ids = list(map(str, image_ids))
        return cls(ids, captions, split.text_image, metadata.image_files, pictures or data_dir, data_dir)

    @functools.cached_property
    def _texts_of(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the texts in the order of their images, (M,), and where those of each image begin, (N + 1,)."""
        order = np.argsort(self.text_image, kind="stable")
        return order, np.searchsorted(self.text_image[order], np.arange(len(self.image_ids) + 1))

    def counts(self) -> dict[str, int]:
        """Return the numbers of images and captions."""
        return {"images": len(self.image_ids), "captions": len(self.text_image)}

    def texts_of(self, image: int) -> list[int]:
        """Return the texts of an image, as indices."""
        order, begins = self._texts_of
        return order[begins[image] : begins[image + 1]].tolist()

    def described_image(self, image: int) -> dict[str, Any]:
        """Return the id, the name of the picture and the captions of an image, in plain values."""
        image_id = self.image_ids[image]
        texts = self.texts_of(image)[:SHOWN_CAPTIONS]
        captions = [self.captions[text] for text in texts] if self.captions else []
        return {
            "row": image,
            "image_id": image_id,
            "image_file": self.image_files.get(image_id),
            "captions": captions,
        }

    def described_text(self, text: int) -> dict[str, Any]:
        """Return a caption with its image, in plain values."""
        image = int(self.text_image[text])
        caption = self.captions[text] if self.captions else None
        return {"row": text, "caption": caption, "image_row": image, "image_id": self.image_ids[image]}

    def picture(self, image: int, pixels: int) -> bytes:
        """Return the picture of an image as JPEG, at most `pixels` wide and high, or raise UnreadablePicture."""
        name = self.image_files.get(self.image_ids[image])
        if name is None:
            raise UnreadablePicture(NOT_NAMED)
        return small_version(picture_source(self.folder, name, [self.folder, self.start]), pixels)

    def texts_with(self, words: str, count: int) -> list[int]:
        """Return the first captions that hold all these words, in any case, as indices."""
        wanted = words.casefold().split()
        found = (text for text, folded in enumerate(self._folded) if all(word in folded for word in wanted))
        return [text for text, _ in zip(found, range(count), strict=False)]

    @functools.cached_property
    def _folded(self) -> list[str]:
        return [caption.casefold() for caption in self.captions or ()]
