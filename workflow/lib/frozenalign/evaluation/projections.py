"""The embeddings of a split, projected by a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.equal_rows import first_equal, row_keys
from frozenalign.data.pairs import PairFiles, ResidentPairs
from frozenalign.data.rows import Rows
from frozenalign.evaluation.counting import Penalties
from frozenalign.evaluation.image_batches import ImageBatch, image_batches, rows_at_once
from frozenalign.evaluation.metrics import Ranks
from frozenalign.evaluation.ranks import all_ranks
from frozenalign.models.dual_encoder import DualEncoder, unit
from frozenalign.system.memory import FittingSize
from frozenalign.system.products import blocks

ROWS_AT_ONCE = 4096
projected_rows = FittingSize("rows to project", 64, "choose a smaller head, or set `device: cpu`")


@dataclass(frozen=True)
class Projections:
    """Unit vectors of images (n, D) and texts (m, D); text_image (m,) indexes the images."""

    images: Tensor
    texts: Tensor
    text_image: Tensor

    def without_hub_penalty(self, model: DualEncoder) -> "Projections":
        """Return where the rows lie, for maps and diagnostics: their vectors without what a penalty for hubs added."""
        return replace(self, images=model.without_hub_penalty(self.images), texts=model.without_hub_penalty(self.texts))

    def ranks(self) -> Ranks:
        """Return the exact retrieval ranks."""
        return self.all_ranks([None])[0]

    def all_ranks(self, penalties: Sequence[Penalties | None]) -> list[Ranks]:
        """Return the exact retrieval ranks by the scores less each of the penalties; None: by the scores."""
        return all_ranks(self.images, self.texts, self.text_image, penalties)

    def texts_of(self, start: int, stop: int) -> Tensor:
        """Return which texts (m,) are of images start to stop - 1."""
        return (self.text_image >= start) & (self.text_image < stop)

    def of_images(self, start: int, stop: int) -> "Projections":
        """Return images start to stop - 1 with their texts."""
        texts = self.texts_of(start, stop)
        return Projections(self.images[start:stop], self.texts[texts], self.text_image[texts] - start)

    def of_chosen(self, images: np.ndarray) -> "Projections":
        """Return the ascending images (k,) with their texts."""
        chosen = torch.from_numpy(images).to(self.text_image.device)
        place = torch.full((len(self.images),), -1, device=self.text_image.device)
        place[chosen] = torch.arange(len(images), device=place.device)
        texts = place[self.text_image] >= 0
        return Projections(self.images[chosen], self.texts[texts], place[self.text_image[texts]])


@torch.no_grad()
def project_standardized(model: DualEncoder, pairs: ResidentPairs) -> Projections:
    """Project standardised rows held in memory; the towers compute in the pairs' number format."""
    model.eval()
    images, texts = (
        projected_rows.run(_unit_vectors, ROWS_AT_ONCE, rows.device, tower, rows, pairs.compute)
        for tower, rows in ((model.image_tower, pairs.images), (model.text_tower, pairs.texts))
    )
    return Projections(images, texts, pairs.text_image)


def _unit_vectors(size: int, tower: torch.nn.Module, rows: Tensor, compute: torch.dtype) -> Tensor:
    """Return unit vectors (N, D_out) of rows (N, D), computed from `size` rows at a time."""
    with torch.autocast(rows.device.type, dtype=compute, enabled=compute == torch.bfloat16):
        return torch.cat([unit(tower(part.to(compute))) for part in rows.split(size)])


def see_nothing(batch: ImageBatch) -> None:
    """Do nothing with the rows that are being projected."""


@torch.no_grad()
def project_files(
    model: DualEncoder, files: PairFiles, device: torch.device, see: Callable[[ImageBatch], None] = see_nothing
) -> Projections:
    """Project the raw rows of a split in float32 on a device, reading each once, some thousand at a time.

    Bit-identical rows get the same. see: is given the rows as well.
    """
    model.to(device)
    split = files.split
    images, texts = _Mapped(len(split.image_rows)), _Mapped(len(split.text_rows))
    for batch in image_batches(files):
        see(batch)
        images.add(slice(batch.new.start, batch.new.stop), batch.new_rows, model.encode_images, device)
        texts.add(batch.texts, batch.text_rows, model.encode_texts, device)
    return Projections(
        images.of_equal_rows_alike(files.images, split.image_rows),
        texts.of_equal_rows_alike(files.texts, split.text_rows),
        torch.from_numpy(split.text_image).to(device),
    )


@torch.no_grad()
def map_rows(function: Callable[[Tensor], Tensor], file: Rows, rows: np.ndarray, device: torch.device) -> Tensor:
    """Return `function` of ascending rows of a file, (len(rows), …), by batches; bit-identical rows get the same."""
    mapped = _Mapped(len(rows))
    for where in blocks(len(rows), rows_at_once(file.row_bytes)):
        mapped.add(where, file.take(rows[where]), function, device)
    return mapped.of_equal_rows_alike(file, rows)


class _Mapped:
    """What a function returns for rows, filled in batch by batch: joining the parts would take twice the memory."""

    def __init__(self, rows: int) -> None:
        self.keys = np.empty(rows, dtype=np.int64)
        self.values: Tensor | None = None

    def add(
        self, where: slice | np.ndarray, rows: Tensor, function: Callable[[Tensor], Tensor], device: torch.device
    ) -> None:
        """Map rows (b, D), and put what comes of them where it belongs."""
        if not len(rows):
            return
        self.keys[where] = row_keys(rows)
        part = function(rows.to(device))
        if self.values is None:
            self.values = part.new_empty(len(self.keys), *part.shape[1:])
        self.values[where] = part

    def of_equal_rows_alike(self, file: Rows, rows: np.ndarray) -> Tensor:
        """Return what came of the ascending rows (n,) of a file, (n, …); bit-identical rows get the same.

        They tie, and no rounding may break the tie: a product may round a row differently at another place in a batch.
        """
        source = first_equal(file, rows, self.keys)
        later = np.flatnonzero(source != np.arange(len(rows)))
        where, first = (torch.from_numpy(places).to(self.values.device) for places in (later, source[later]))
        self.values[where] = self.values[first]
        return self.values
