"""The gallery that is searched: the images and captions of a split, whose rows a model projects."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from torch import Tensor

from frozenalign.configuration.result_files import read_result
from frozenalign.data.manifests import open_sets, open_split
from frozenalign.data.pairs import PairFiles
from frozenalign.data.splits import every_row
from frozenalign.evaluation.hubness import Method, penalties, training_sample
from frozenalign.evaluation.projections import map_rows
from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.gallery_items import GalleryItems
from frozenalign.system.memory import refuse_beyond_memory

logger = logging.getLogger(__name__)
EVERY = "all"
SPLIT_CHOICES = ("test", "val", "train", EVERY)
IMAGES, CAPTIONS = "images", "captions"
KINDS = (IMAGES, CAPTIONS)


class Gallery(Protocol):
    """What is searched. kind: images or captions, in every method.

    name: what messages and pages call it.
    """

    items: GalleryItems
    name: str

    def vectors(self, model: AlignedModel, kind: str) -> Tensor:
        """Return the projected rows of all images (N, D) or captions (M, D), float32, on the model's device."""

    def has_penalties(self, method: Method) -> bool:
        """Return whether `penalties` can be asked for."""

    def penalties(self, model: AlignedModel, kind: str, vectors: Tensor, method: Method) -> Tensor:
        """Return by how much each row of `vectors` is nearer to all queries than others, (N,) or (M,)."""


@dataclass(frozen=True)
class SplitGallery:
    """The images and captions of a split, in the order of their rows.

    files: their embeddings. training: those of the training pairs, which hubness is measured against.
    """

    items: GalleryItems
    name: str
    files: PairFiles
    training: PairFiles

    @classmethod
    def open(cls, data_dir: Path, split_dir: Path, split: str, pictures: Path | None = None) -> "SplitGallery":
        """Open a split, or all rows of its data set, reading no embedding.

        pictures: the folder that names of pictures start from, if it is not that of the data.
        """
        opened = open_split(data_dir, split_dir, list(dict.fromkeys(["train", *([] if split == EVERY else [split])])))
        _, _, metadata, index = open_sets(data_dir, split_dir, opened.manifest)
        train = opened.pairs["train"]
        files = replace(train, split=every_row(index)) if split == EVERY else opened.pairs[split]
        items = GalleryItems.of_split(metadata, files.split, data_dir, pictures)
        dataset = read_result(split_dir / "manifest.json").get("dataset") or data_dir.name
        name = f"{dataset}, all splits" if split == EVERY else f"{dataset}, {split} split"
        return cls(items, name, files, replace(train, split=training_sample(train.split)))

    def vectors(self, model: AlignedModel, kind: str) -> Tensor:
        """Return the projected rows of all images or captions."""
        return _projected(model, kind, self.files)

    def has_penalties(self, method: Method) -> bool:
        """Return that there are penalties of any method: the training rows are there."""
        return True

    def penalties(self, model: AlignedModel, kind: str, vectors: Tensor, method: Method) -> Tensor:
        """Return the penalties that training queries of the other kind give."""
        queries = _projected(model, CAPTIONS if kind == IMAGES else IMAGES, self.training)
        logger.info("hubness of %d %s, measured with %d of the training set", len(vectors), kind, len(queries))
        return penalties([method], vectors, queries)[0]


def _projected(model: AlignedModel, kind: str, files: PairFiles) -> Tensor:
    rows, file, encode = {
        IMAGES: (files.split.image_rows, files.images, model.model.encode_images),
        CAPTIONS: (files.split.text_rows, files.texts, model.model.encode_texts),
    }[kind]
    needed = 4 * len(rows) * model.width
    refuse_beyond_memory(
        needed, f"searching {len(rows)} {kind}", "take a smaller split, or a head with fewer dimensions"
    )
    return map_rows(encode, file, rows, model.device)
