"""A planted set in the input layout, written a thousand images at a time."""

import json
from pathlib import Path

import numpy as np

from frozenalign.data.formats.row_writer import write_tensor
from tests.benchmarks.coco.planted import Planted


def write_input(folder: Path, images: int) -> None:
    """Write float32 embeddings of COCO's widths and their metadata."""
    write_planted(folder, Planted(images))


def write_planted(folder: Path, planted: Planted, number: str = "float32") -> None:
    """Write embeddings in the number format `number`, and their metadata last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, width, rows in (
        ("image", planted.image_dim, planted.image_rows),
        ("text", planted.text_dim, planted.text_rows),
    ):
        path, shape = folder / f"train2017_{name}_embeddings.pt", (len(planted.owners), width)
        write_tensor(path, shape, number, (rows(block).astype(number) for block in planted.blocks()))
    metadata = json.dumps({"image_ids": planted.owners.tolist(), "captions": _captions(planted)})
    (folder / "train2017_metadata.json").write_text(metadata, encoding="utf-8")


def _captions(planted: Planted) -> list[str]:
    """Return captions of the length that COCO's have, 52 characters."""
    first = np.flatnonzero(np.diff(planted.owners, prepend=-1))
    places = np.arange(len(planted.owners)) - first[planted.owners]
    pairs = zip(planted.owners.tolist(), places.tolist(), strict=True)
    return [f"Caption number {place} of the planted image number {image:06d}." for image, place in pairs]
