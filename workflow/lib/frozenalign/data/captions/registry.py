"""Pictures with their captions, read from the forms in which they are distributed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json

CAPTION_BYTES = 1 << 30


@dataclass(frozen=True)
class CaptionedPictures:
    """Pictures with their captions, in the order of image id, then caption id (numbers by value, text by text)."""

    image_ids: list[str]
    caption_ids: list[str]
    captions: list[str]
    image_files: dict[str, str]
    splits: dict[str, str]


def read_captions(files: Sequence[Path], columns: Mapping[str, str] | None = None) -> CaptionedPictures:
    """Read pictures and captions from files in COCO's form."""
    pairs, names = [], {}
    for path in files:
        content = read_json(path, CAPTION_BYTES, "check `encode.captions` of the data set, or put the file there")
        try:
            names |= {image["id"]: image["file_name"] for image in content["images"]}
            pairs += [(note["image_id"], note["id"], note["caption"]) for note in content["annotations"]]
        except (LookupError, TypeError) as error:
            raise UserError(f"{path} is not in COCO's form: it needs `images` and `annotations`") from error
    pairs.sort()
    image_ids, caption_ids, captions = (list(column) for column in zip(*pairs, strict=True))
    image_files = {str(image_id): names[image_id] for image_id in image_ids}
    return CaptionedPictures(list(map(str, image_ids)), list(map(str, caption_ids)), captions, image_files, {})
