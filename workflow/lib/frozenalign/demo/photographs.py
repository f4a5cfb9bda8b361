"""Photographs that installed packages ship, cut into views, with captions written for them: a small real set to encode.

Twenty-one photographs are too few to learn from and to test on. Of each, eight views and three captions are for
training, another view and caption for validation, and another for the test: what is tested is whether an unseen view is
found by an unseen caption, among views of photographs that were seen.
"""

import csv
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from frozenalign.system.errors import UserError

CAPTIONS = Path(__file__).with_name("photographs.csv")
# Packages and the folders in which they keep their sample pictures.
SOURCES = {"skimage": "data", "sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}
# The split of each view of a photograph, and of each of its captions.
VIEWS = ("test", "val", *["train"] * 8)
WRITTEN = ("train", "train", "train", "val", "test")
LONGEST_SIDE = 400
# Shares of the sides that a view keeps.
SMALLEST_VIEW, LARGEST_VIEW = 0.6, 0.9


@dataclass(frozen=True)
class View:
    """A part of a photograph as a picture of its own, with its captions and its split."""

    name: str
    picture: Image.Image
    captions: list[str]
    split: str


def photographs() -> dict[str, list[str]]:
    """Return the captions of every photograph by its file's name."""
    found: dict[str, list[str]] = {}
    with CAPTIONS.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row["image"], []).append(row["caption"])
    return found


def photograph_path(name: str) -> Path:
    """Return the path of a photograph; one that no installed package ships is a UserError."""
    places = [folder / name for package, inside in SOURCES.items() for folder in _folders(package, inside)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(f"no installed package has the photograph {name}: run make demo-photos, which installs them")
    return path


def views_of(name: str, captions: list[str], generator: np.random.Generator) -> Iterator[View]:
    """Yield the views of a photograph; only the generator's state decides which."""
    with Image.open(photograph_path(name)) as opened:
        photograph = opened.convert("RGB")
    photograph.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BICUBIC)
    for number, split in enumerate(VIEWS):
        own = [caption for caption, of_split in zip(captions, WRITTEN, strict=True) if of_split == split]
        yield View(f"{Path(name).stem}-{number}.jpg", _part(photograph, generator), own, split)


def _part(photograph: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return a random part of a photograph, in its own proportions, mirrored or not."""
    share = generator.uniform(SMALLEST_VIEW, LARGEST_VIEW)
    width, height = (round(share * side) for side in photograph.size)
    left, top = (
        int(generator.integers(0, side - own + 1)) for side, own in zip(photograph.size, (width, height), strict=True)
    )
    part = photograph.crop((left, top, left + width, top + height))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else part


def _folders(package: str, inside: str) -> list[Path]:
    """Return a folder of a package, or none where it is not installed, without importing it."""
    spec = importlib.util.find_spec(package)
    return [Path(root) / inside for root in (spec and spec.submodule_search_locations) or []]
