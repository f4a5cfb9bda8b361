"""COCO's captions_*.json: a list of images and a list of annotations."""

from typing import Any

from frozenalign.data.captions.pairs import ListedCaptions
from frozenalign.data.captions.registry import register_caption_format
from frozenalign.data.captions.sources import CaptionSource
from frozenalign.system.errors import UserError, quoted


@register_caption_format("coco")
class CocoCaptions:
    """COCO's captions_*.json: `images` with `id` and `file_name`, `annotations` with `id`, `image_id` and `caption`."""

    form = "COCO's captions_*.json (`images` and `annotations`)"
    has_columns = False

    @staticmethod
    def recognises(source: CaptionSource) -> bool:
        """Return whether the file is a JSON object with annotations."""
        return isinstance(source.document, dict) and "annotations" in source.document

    @staticmethod
    def read(source: CaptionSource) -> ListedCaptions:
        """Return what the file lists."""
        images = _columns(source, "images", ("id", "file_name"))
        image_ids, caption_ids, captions = _columns(source, "annotations", ("image_id", "id", "caption"))
        return ListedCaptions(
            source.path,
            list(zip(*images, strict=True)),
            image_ids,
            caption_ids,
            captions,
            lambda i: f"annotations[{i}] (id {quoted(caption_ids[i])})",
            lambda i: f"images[{i}]",
        )


def _columns(source: CaptionSource, name: str, keys: tuple[str, ...]) -> list[list[Any]]:
    """Return the values of each key in a list of objects."""
    items = source.document.get(name)
    if not isinstance(items, list):
        raise UserError(f"{source.path} needs a list `{name}` beside the other: download COCO's file again")
    try:
        return [[item[key] for item in items] for key in keys]
    except (KeyError, TypeError) as error:
        lacking = next(i for i, item in enumerate(items) if not isinstance(item, dict) or not item.keys() >= set(keys))
        raise UserError(
            f"{source.path}: {name}[{lacking}] needs the keys {', '.join(keys)}; if these are not captions (COCO has "
            "files of instances and keypoints as well), name its captions_*.json"
        ) from error
