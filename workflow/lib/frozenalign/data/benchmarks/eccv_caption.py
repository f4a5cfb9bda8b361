"""The positives in the package eccv_caption, of the 5,000 test images of COCO; its code does not run.

Chun et al. 2022, ECCV Caption: Correcting False Negatives by Collecting Machine-and-Human-verified Image-Caption
Associations for MS-COCO; Parekh et al. 2021, Crisscrossed Captions. Ids are those of COCO's images and annotations.
"""

import importlib.util
from pathlib import Path

import numpy as np

from frozenalign.data.benchmarks.positives import DIRECTIONS, Positives
from frozenalign.data.benchmarks.registry import register_positives
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json

PACKAGE = "eccv_caption"
TEST_IDS = "coco_test_ids.npy"
FOLDS = 5


@register_positives("eccv_caption")
class EccvCaption:
    """ECCV Caption: 1,332 captions and 1,261 images of COCO's test split with verified positives."""

    @staticmethod
    def files() -> list[Path]:
        """Return the files of both directions."""
        return _files("eccv")

    @staticmethod
    def read() -> Positives:
        """Return the positives of ECCV Caption."""
        return _read("eccv")


@register_positives("cxc")
class Cxc:
    """CxC, Crisscrossed Captions: 24,972 captions and 5,000 images of COCO's test split with similar pairs."""

    @staticmethod
    def files() -> list[Path]:
        """Return the files of both directions."""
        return _files("cxc")

    @staticmethod
    def read() -> Positives:
        """Return the positives of CxC."""
        return _read("cxc")


@register_positives("coco")
class Coco:
    """COCO's own pairs of the test split, with five folds of 1,000 images."""

    @staticmethod
    def files() -> list[Path]:
        """Return the files of both directions, and the order of the captions."""
        return [*_files("original"), _folder() / TEST_IDS]

    @staticmethod
    def read() -> Positives:
        """Return the pairs of COCO's test split and its folds."""
        found = _read("original")
        ids = np.load(_folder() / TEST_IDS, allow_pickle=False).astype(str)
        folds = (frozenset().union(*(found.images[name] for name in part)) for part in np.array_split(ids, FOLDS))
        return Positives(found.images, found.captions, found.as_listed, tuple(folds))


def _folder() -> Path:
    """Return the folder of the package's data, without importing it."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"these positives need the package {PACKAGE}: run pip install --require-hashes -r "
            "envs/requirements-benchmarks.txt, or name a file as `positives`"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def _files(name: str) -> list[Path]:
    return [_folder() / f"{name}_{direction}.json" for direction in DIRECTIONS]


def _read(name: str) -> Positives:
    images, captions = (
        {key: frozenset(map(str, values)) for key, values in read_json(path).items()} for path in _files(name)
    )
    return Positives(images, captions, as_listed=True)
