"""Photographs that installed packages ship, with captions written for them: a small real set to encode."""

import importlib.util
from pathlib import Path

from frozenalign.system.errors import UserError

CAPTIONS = Path(__file__).with_name("photographs.csv")
# Packages and the folders in which they keep their sample pictures.
SOURCES = {"skimage": "data", "sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}


def photographs(names: list[str]) -> dict[str, Path]:
    """Return the path of each named photograph; the first that no package ships is a UserError."""
    folders = [folder for package, inside in SOURCES.items() for folder in _folders(package, inside)]
    found = {name: next((folder / name for folder in folders if (folder / name).is_file()), None) for name in names}
    for name, path in found.items():
        if path is None:
            raise UserError(
                f"no installed package has the photograph {name}: run `pip install -r envs/requirements-encode.txt`, "
                "which installs scikit-image"
            )
    return {name: path for name, path in found.items() if path}


def _folders(package: str, inside: str) -> list[Path]:
    """Return a folder of a package, or none where it is not installed, without importing it."""
    spec = importlib.util.find_spec(package)
    return [Path(root) / inside for root in (spec and spec.submodule_search_locations) or []]
