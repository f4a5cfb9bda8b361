"""Projected rows in the folder layout of clip-retrieval, which indexing tools read: one (image, caption) pair a row.

`img_emb/img_emb_0.npy` and `text_emb/text_emb_0.npy` hold float16 unit vectors (M, D), `metadata/metadata_0.parquet`
names image and caption of each row. An image stands once for each of its captions.
"""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from frozenalign.data.formats.registry import INSTALL
from frozenalign.evaluation.hubness import method_of
from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.galleries import CAPTIONS, IMAGES, KINDS, SplitGallery
from frozenalign.serving.gallery_items import GalleryItems
from frozenalign.serving.hub_correction import CORRECTED
from frozenalign.system.errors import UserError
from frozenalign.system.files import replacing, write_arrays, write_json
from frozenalign.system.optional_libraries import imported
from frozenalign.system.products import blocks

FORMAT = 1
RECORD, PENALTIES = "gallery.json", "hub_penalties.npz"
ROWS = {IMAGES: Path("img_emb", "img_emb_0.npy"), CAPTIONS: Path("text_emb", "text_emb_0.npy")}
METADATA = Path("metadata", "metadata_0.parquet")
ROWS_AT_ONCE = 16384
# What tells one head from another, whichever folder it lies in.
HEAD = ("dataset", "experiment", "kind", "seed", "inputs", "selected")


def write_projected(folder: Path, gallery: SplitGallery, model: AlignedModel) -> str:
    """Write the rows of a gallery as a head projects them, and return what was written.

    With an evaluation of the head, the penalties of its correction of hubs lie beside them. Another folder's files are
    refused.
    """
    refuse_foreign_folder(folder)
    head = head_of(model)
    # Until it names the gallery, the folder is not complete.
    write_json(folder / RECORD, {"format": FORMAT, "head": head})
    vectors = {kind: gallery.vectors(model, kind) for kind in KINDS}
    items, text_image = gallery.items, gallery.items.text_image
    _write_rows(folder / ROWS[IMAGES], vectors[IMAGES], text_image)
    _write_rows(folder / ROWS[CAPTIONS], vectors[CAPTIONS], np.arange(len(text_image)))
    _write_metadata(folder / METADATA, items)
    correction = (model.facts["metrics"] or {}).get(CORRECTED, {}).get("correction")
    method = correction and method_of(correction)
    if method:
        penalties = {kind: gallery.penalties(model, kind, vectors[kind], method).cpu().numpy() for kind in KINDS}
        by_row = {IMAGES: penalties[IMAGES][text_image], CAPTIONS: penalties[CAPTIONS]}
        write_arrays(folder / PENALTIES, **by_row)
    else:
        (folder / PENALTIES).unlink(missing_ok=True)
    counts = items.counts()
    described = {"name": gallery.name, **counts, "correction": correction if method else None}
    write_json(folder / RECORD, {"format": FORMAT, "head": head, **described})
    return f"{counts[IMAGES]} images and {counts[CAPTIONS]} captions of {model.width} numbers"


def head_of(model: AlignedModel) -> dict[str, Any]:
    """Return what tells a trained head from all others."""
    return {name: model.facts[name] for name in HEAD}


def refuse_foreign_folder(folder: Path) -> None:
    """Refuse a folder that holds rows which were not written here."""
    there = [path for path in (*ROWS.values(), METADATA) if (folder / path).exists()]
    if there and not (folder / RECORD).exists():
        raise UserError(f"{folder / there[0]} was not written by this step: choose another --output-dir")


def _write_rows(path: Path, vectors: Tensor, rows: np.ndarray) -> None:
    """Write some rows of vectors (N, D), in the given order, as float16."""
    shape = (len(rows), vectors.shape[1])
    with replacing(path, needed=2 * shape[0] * shape[1]) as temporary:
        stored = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        for part in blocks(len(rows), ROWS_AT_ONCE):
            stored[part] = vectors[rows[part]].cpu().numpy()
        stored.flush()


def _write_metadata(path: Path, items: GalleryItems) -> None:
    arrow, parquet = imported("pyarrow", INSTALL, path), imported("pyarrow.parquet", INSTALL, path)
    ids = [items.image_ids[image] for image in items.text_image]
    columns: dict[str, list[str]] = {"image_id": ids}
    if all(image_id in items.image_files for image_id in items.image_ids):
        columns |= {"image_path": [items.image_files[image_id] for image_id in ids]}
    if items.captions is not None:
        columns |= {"caption": list(items.captions)}
    with replacing(path) as temporary:
        parquet.write_table(arrow.table(columns), temporary)
