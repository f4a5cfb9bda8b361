"""Karpathy's dataset_*.json: images with sentences, for COCO and Flickr; `split.assignments` reads their splits."""

from pathlib import Path
from typing import Any, NamedTuple

from frozenalign.data.captions.checks import as_ids
from frozenalign.data.captions.pairs import ListedCaptions
from frozenalign.data.captions.registry import register_caption_format
from frozenalign.data.captions.sources import CaptionSource
from frozenalign.system.errors import UserError, quoted

KEYS = ("filename", "sentences")


class KarpathyImage(NamedTuple):
    """An image with the id and the path of its picture, and (id, caption) of each sentence."""

    image_id: str
    file: str
    sentences: list[tuple[Any, Any]]


@register_caption_format("karpathy")
class KarpathyCaptions:
    """Karpathy's dataset_*.json: `images` with `sentences`, `split`, and `cocoid` (COCO) or `imgid` (Flickr)."""

    form = "Karpathy's dataset_*.json (`images` with `sentences`)"
    has_columns = False

    @staticmethod
    def recognises(source: CaptionSource) -> bool:
        """Return whether the file is a JSON object without annotations whose first image has sentences."""
        if not isinstance(source.document, dict) or "annotations" in source.document:
            return False
        images = source.document.get("images")
        return isinstance(images, list) and bool(images) and isinstance(images[0], dict) and "sentences" in images[0]

    @staticmethod
    def read(source: CaptionSource) -> ListedCaptions:
        """Return what the file lists."""
        images = _karpathy_images(source.document, source.path)
        rows = [
            (i, number, sentence) for i, image in enumerate(images) for number, sentence in enumerate(image.sentences)
        ]
        return ListedCaptions(
            source.path,
            [(image.image_id, image.file) for image in images],
            [images[i].image_id for i, _, _ in rows],
            [sentence_id for _, _, (sentence_id, _) in rows],
            [caption for _, _, (_, caption) in rows],
            lambda row: f"images[{rows[row][0]}].sentences[{rows[row][1]}] (sentid {quoted(rows[row][2][0])})",
            lambda i: f"images[{i}]",
        )


def _karpathy_images(content: Any, path: Path) -> list[KarpathyImage]:
    """Return the images of Karpathy's JSON.

    path: the file, for messages. The id of an image is its `cocoid`, or its `imgid` where the first image has none.
    """
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images or not all(isinstance(image, dict) for image in images):
        raise UserError(f"{path} needs a list `images` of objects: give Karpathy's dataset_*.json")
    key = "cocoid" if "cocoid" in images[0] else "imgid"
    ids = as_ids([image.get(key) for image in images], lambda i: f"{path}: images[{i}]", key)
    return [_image(ids[i], image, f"{path}: images[{i}]") for i, image in enumerate(images)]


def _image(image_id: str, image: dict[str, Any], where: str) -> KarpathyImage:
    if not image.keys() >= set(KEYS):
        raise UserError(f"{where} needs the keys {', '.join(KEYS)}: download Karpathy's file again")
    folder, file = image.get("filepath"), image["filename"]
    return KarpathyImage(
        image_id,
        f"{folder}/{file}" if isinstance(folder, str) and folder and isinstance(file, str) else file,
        _sentences(image["sentences"], where),
    )


def _sentences(sentences: Any, where: str) -> list[tuple[Any, Any]]:
    if not isinstance(sentences, list) or not all(
        isinstance(sentence, dict) and sentence.keys() >= {"raw", "sentid"} for sentence in sentences
    ):
        raise UserError(f"{where}: `sentences` must list objects with `raw` and `sentid`: download the file again")
    return [(sentence["sentid"], sentence["raw"]) for sentence in sentences]
