"""Which gallery is searched: what the user names of it, completed from where the model lies."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from frozenalign.configuration.result_files import read_result
from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.faiss_index import FaissIndex
from frozenalign.serving.galleries import Gallery, SplitGallery
from frozenalign.serving.projected_gallery import ProjectedGallery
from frozenalign.system.errors import UserError

FOLDERS_ABOVE = 4


@dataclass(frozen=True)
class GalleryChoice:
    """What a user names: a folder of projected rows, or the folders of a data set and of its split."""

    gallery: Path | None
    data_dir: Path | None
    split_dir: Path | None
    split: str
    pictures: Path | None

    def completed(self, model: Path) -> "GalleryChoice":
        """Return it with the split of the run that the model lies in, and the data that the split names.

        A folder of projected rows needs neither, but its pictures and the record of the encoders lie with the data.
        """
        if self.gallery:
            with contextlib.suppress(UserError):
                return replace(self, data_dir=self.data_dir or recorded_data_dir(nearby_split(model)))
            return self
        split_dir = self.split_dir or nearby_split(model)
        return replace(self, split_dir=split_dir, data_dir=self.data_dir or recorded_data_dir(split_dir))


def open_gallery(choice: GalleryChoice, model: AlignedModel) -> Gallery:
    """Open the gallery for a model."""
    if choice.gallery:
        return ProjectedGallery.open(choice.gallery, model, choice.pictures or choice.data_dir)
    return SplitGallery.open(choice.data_dir, choice.split_dir, choice.split, choice.pictures)


def open_index(path: Path, gallery: Gallery, kind: str) -> FaissIndex:
    """Open an index of the images or captions of a folder of projected rows."""
    if not isinstance(gallery, ProjectedGallery):
        raise UserError("--index needs the rows that it was built from: name their folder with --gallery")
    return FaissIndex.open(path, gallery.candidate_of_row(kind), gallery.rows[kind].width)


def nearby_split(model: Path) -> Path:
    """Return the folder of the split of the run that a model lies in: results/DATASET/split."""
    for folder in model.absolute().parents[:FOLDERS_ABOVE]:
        if (folder / "split" / "manifest.json").exists():
            return folder / "split"
    raise UserError(
        f"no folder above {model} has a split: name its folder with --split-dir, and that of the data with --data-dir"
    )


def recorded_data_dir(split_dir: Path) -> Path:
    """Return the folder of the embeddings that a split was made from, as its manifest names it."""
    folder = read_result(split_dir / "manifest.json")["folder"]
    if not Path(folder).is_dir():
        raise UserError(f"{folder}, from which {split_dir} was made, is no folder here: name it with --data-dir")
    return Path(folder)
