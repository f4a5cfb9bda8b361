"""The embeddings of a split, projected by a model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import PairFiles, ResidentPairs
from frozenalign.data.rows import Rows
from frozenalign.evaluation.equal_rows import make_equal_rows_alike, row_keys
from frozenalign.evaluation.metrics import Ranks
from frozenalign.evaluation.ranks import RankCounts, rank_counts, retrieval_ranks
from frozenalign.evaluation.shares import Share
from frozenalign.models.dual_encoder import DualEncoder, unit
from frozenalign.system.memory import FittingSize

ROWS_AT_ONCE = 4096
projected_rows = FittingSize("rows to project", 64, "choose a smaller head, or set `device: cpu`")


@dataclass(frozen=True)
class Projections:
    """Unit vectors of images (n, D) and texts (m, D); text_image (m,) indexes the images."""

    images: Tensor
    texts: Tensor
    text_image: Tensor

    def ranks(self) -> Ranks:
        """Return the exact retrieval ranks."""
        return retrieval_ranks(self.images, self.texts, self.text_image)

    def rank_counts(self, share: Share) -> RankCounts:
        """Return what a share of the scores adds to the ranks."""
        return rank_counts(self.images, self.texts, self.text_image, share)

    def of_images(self, start: int, stop: int) -> "Projections":
        """Return images start to stop - 1 with their texts."""
        texts = (self.text_image >= start) & (self.text_image < stop)
        return Projections(self.images[start:stop], self.texts[texts], self.text_image[texts] - start)


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


def project_files(model: DualEncoder, files: PairFiles, device: torch.device) -> Projections:
    """Project the raw rows of a split in float32 on a device, reading a few MB at a time."""
    model.to(device)
    return Projections(
        map_rows(model.encode_images, files.images, files.split.image_rows, device),
        map_rows(model.encode_texts, files.texts, files.split.text_rows, device),
        torch.from_numpy(files.split.text_image).to(device),
    )


@torch.no_grad()
def map_rows(function: Callable[[Tensor], Tensor], file: Rows, rows: np.ndarray, device: torch.device) -> Tensor:
    """Return `function` of ascending rows of a file, (len(rows), …), by chunks; bit-identical rows get the same."""
    mapped, keys = None, []
    for where, chunk in file.select(rows):
        keys.append(row_keys(chunk))
        part = function(chunk.to(device))
        # Joining the parts at the end would take twice the memory.
        mapped = part.new_empty(len(rows), *part.shape[1:]) if mapped is None else mapped
        mapped[where] = part
    make_equal_rows_alike(mapped, file, rows, np.concatenate(keys))
    return mapped
