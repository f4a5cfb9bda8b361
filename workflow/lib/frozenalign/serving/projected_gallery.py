"""A gallery of rows that a head has projected before: a folder in the layout of clip-retrieval."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.configuration.result_files import read_result
from frozenalign.data.embeddings import METADATA_BYTES, METADATA_BYTES_A_ROW
from frozenalign.data.formats.given_sets import SetSources
from frozenalign.data.formats.opening import open_source
from frozenalign.data.formats.pairing import pairs_metadata, read_columns
from frozenalign.data.formats.stored_rows import StoredRows
from frozenalign.evaluation.hubness import Method, method_of
from frozenalign.evaluation.ranks import all_finite
from frozenalign.models.dual_encoder import unit
from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.galleries import CAPTIONS, IMAGES
from frozenalign.serving.gallery_items import GalleryItems
from frozenalign.serving.projected_rows import PENALTIES, RECORD, head_of
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_arrays
from frozenalign.system.memory import refuse_beyond_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProjectedGallery:
    """Images and captions whose projected rows lie in files; an image that stands in several rows is one.

    rows: the stored rows of each kind. first: (N,) the row of each image among them. correction: what metrics.json says
    of the correction whose penalties lie beside them, None without.
    """

    items: GalleryItems
    name: str
    folder: Path
    rows: dict[str, StoredRows]
    first: np.ndarray
    correction: Mapping[str, Any] | None

    @classmethod
    def open(cls, folder: Path, model: AlignedModel, pictures: Path | None = None) -> "ProjectedGallery":
        """Open a folder that `gallery` wrote, or another one of rows of this model, reading no rows.

        pictures: the folder that names of pictures start from, that of the rows by default.
        """
        record = _record(folder, model)
        sources = SetSources.find(str(folder), str(folder), str(folder))
        images, texts = open_source(sources.images), open_source(sources.texts)
        _refuse_other_widths(images, texts, model)
        where = sources.metadata.files[0]
        columns = read_columns(sources.metadata, METADATA_BYTES + METADATA_BYTES_A_ROW * texts.rows)
        metadata = pairs_metadata(images, texts, columns, where)
        first = _first_rows(metadata.get("unique_image_ids") or metadata["image_ids"])
        place = {image_id: image for image, image_id in enumerate(first)}
        text_image = np.array([place[image_id] for image_id in metadata["image_ids"]])
        files = {image_id: file for image_id, file in _files(metadata).items() if isinstance(file, str)}
        items = GalleryItems(list(first), metadata.get("captions"), text_image, files, pictures or folder, folder)
        rows = {IMAGES: images, CAPTIONS: texts}
        return cls(
            items,
            record.get("name", str(folder)),
            folder,
            rows,
            np.array(list(first.values())),
            record.get("correction"),
        )

    def candidate_of_row(self, kind: str) -> np.ndarray:
        """Return which image or caption each stored row is, (rows,)."""
        if kind == IMAGES and self.rows[kind].rows == len(self.items.text_image):
            return self.items.text_image
        return np.arange(self.rows[kind].rows)

    def vectors(self, model: AlignedModel, kind: str) -> Tensor:
        """Return the unit vectors of all images or captions."""
        wanted = self.first if kind == IMAGES else np.arange(self.rows[kind].rows)
        stored = self.rows[kind]
        needed = 4 * len(wanted) * stored.width
        refuse_beyond_memory(needed, f"searching {len(wanted)} {kind}", "give it more, or divide the gallery")
        vectors = unit(_read(stored, wanted))
        if not all_finite(vectors):
            raise UserError(f"{stored.path} holds NaN or infinite numbers: project its rows again")
        return vectors.to(model.device)

    def has_penalties(self, method: Method) -> bool:
        """Return whether the penalties of a method lie beside the rows."""
        return self.correction is not None and method_of(self.correction) is method

    def penalties(self, model: AlignedModel, kind: str, vectors: Tensor, method: Method) -> Tensor:
        """Return the penalties that were computed when the rows were projected."""
        path = self.folder / PENALTIES
        values = read_arrays(path).get(kind)
        if values is None or values.shape != (len(self.items.text_image),) or not np.isfinite(values).all():
            raise UserError(f"{path} does not hold a number for each row of {kind}: run `gallery` again")
        chosen = values[self.first] if kind == IMAGES else values
        return torch.from_numpy(chosen.astype(np.float32)).to(vectors.device)


def _first_rows(image_ids: list[str]) -> dict[str, int]:
    """Return the first row of each image by its id, in the order of rows."""
    first: dict[str, int] = {}
    for row, image_id in enumerate(image_ids):
        first.setdefault(image_id, row)
    return first


def _files(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    files = metadata.get("image_files")
    return files if isinstance(files, dict) else {}


def _record(folder: Path, model: AlignedModel) -> dict[str, Any]:
    """Return what gallery.json says, nothing where there is none; rows of another head are a UserError."""
    path = folder / RECORD
    if not path.exists():
        logger.warning(
            "warning: %s does not say which head projected it: its rows are taken for those of the model", folder
        )
        return {}
    record = read_result(path)
    # As JSON holds them: a tuple is a list there.
    if record["head"] != (expected := json.loads(json.dumps(head_of(model)))):
        made, asked = (
            f"{head['experiment']}, seed {head['seed']}, {head['dataset']}" for head in (record["head"], expected)
        )
        raise UserError(
            f"{folder} was projected by another training ({made}) than the model ({asked}): give that model, or run "
            "`gallery` again"
        )
    return record


def _refuse_other_widths(images: StoredRows, texts: StoredRows, model: AlignedModel) -> None:
    for rows in (images, texts):
        if rows.width != model.width:
            raise UserError(
                f"{rows.path} has rows of {rows.width} numbers where the model projects to {model.width}: give rows "
                "that it projected"
            )


def _read(stored: StoredRows, rows: np.ndarray) -> Tensor:
    """Return ascending rows (n,) of a file in float32, (n, D)."""
    read = torch.empty(len(rows), stored.width)
    start = 0
    for chunk in stored.chunks():
        begin, end = np.searchsorted(rows, [start, start + len(chunk)])
        read[begin:end] = torch.from_numpy(_float32(chunk[rows[begin:end] - start], stored.number))
        start += len(chunk)
    return read


def _float32(chunk: np.ndarray, number: str) -> np.ndarray:
    if number == "bfloat16":
        return (chunk.astype("<u4") << 16).view("<f4")
    return chunk.astype("<f4")
