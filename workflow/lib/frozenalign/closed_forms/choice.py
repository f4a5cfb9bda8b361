"""The choice of a baseline's hyperparameters by validation, and its maps as a model."""

import importlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.closed_forms.registry import BASELINES, Candidate, LinearPair, project
from frozenalign.data.moments import WITHOUT_CLOSED_FORMS, Moments, moment_bytes
from frozenalign.data.pairs import ResidentPairs
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.memory import refuse_beyond_memory

# Chunks of the pass over the rows and their products, tiles of scores, buffers of the numerical libraries.
FURTHER_BYTES = 128 << 20


@dataclass(frozen=True)
class ChosenMaps:
    """The candidate with the highest validation RSUM, with a warning if all candidates have the same."""

    candidate: Candidate
    rsum: float
    warnings: list[str]


def choose_maps(name: str, moments: Moments, val: ResidentPairs) -> ChosenMaps:
    """Return the candidate of a baseline with the highest RSUM on the raw validation pairs."""
    candidates = ((None, candidate) for candidate in BASELINES[name](moments))
    if not (chosen := best_of_each(candidates, val)):
        raise ValueError(f"the baseline {name!r} yields no candidate")
    return chosen[None]


def best_of_each(
    candidates: Iterable[tuple[int | None, Candidate]], val: ResidentPairs
) -> dict[int | None, ChosenMaps]:
    """Return the best candidate of each key, given (key, candidate); of equally good ones the first."""
    best: dict[int | None, Candidate] = {}
    rsums: dict[int | None, list[float]] = {}
    projected = _Projected(val)
    for key, candidate in candidates:
        ranks = retrieval_ranks(*projected.by(candidate), val.text_image)
        rsum = summarize(ranks)["RSUM"]
        if rsum > max(rsums.setdefault(key, []), default=-math.inf):
            # Its own maps only: those that it shares may be wider.
            best[key] = Candidate(candidate.chosen, candidate.pair)
        rsums[key].append(rsum)
    return {key: ChosenMaps(best[key], max(found), _choice_warnings(found)) for key, found in rsums.items()}


class _Projected:
    """The rows of both modalities as the maps of the last candidate project them, for the next one that shares them."""

    def __init__(self, val: ResidentPairs) -> None:
        self.rows = val.images, val.texts
        self.maps: list[Tensor | None] = [None, None]
        self.projections: list[Tensor] = [val.images, val.texts]

    def by(self, candidate: Candidate) -> list[Tensor]:
        """Return unit vectors of the images (N, K) and of the texts (M, K)."""
        maps = candidate.maps
        for which, (mean, weight) in enumerate(((maps.image_mean, maps.image_map), (maps.text_mean, maps.text_map))):
            if self.maps[which] is not weight:
                self.maps[which] = self.projections[which] = None
                self.projections[which] = project(self.rows[which], mean, weight)
                self.maps[which] = weight
        if (weights := candidate.weights) is None:
            return self.projections
        # That a row has length one already makes no difference to its direction.
        kept = (rows[:, : len(weights)] * weights.to(rows.device) for rows in self.projections)
        return [functional.normalize(rows, dim=1, out=rows) for rows in kept]


def _choice_warnings(rsums: Sequence[float]) -> list[str]:
    if len(rsums) < 2 or len(set(rsums)) > 1:
        return []
    return [f"validation RSUM is {rsums[0]:.1f} for every regulariser, so that none was chosen: give val more images"]


def refuse_too_wide(image_dim: int, text_dim: int, val_images: int, val_texts: int) -> None:
    """Refuse, before anything is read, closed forms that memory does not hold.

    val_images, val_texts: how many rows of each are held and projected.
    """
    # What scipy itself takes is no part of what is counted, so that it must not be part of what is left either.
    importlib.import_module("scipy.linalg")
    refuse_beyond_memory(
        needed_bytes(image_dim, text_dim, val_images, val_texts),
        f"fitting closed forms of {image_dim} image and {text_dim} text dimensions",
        WITHOUT_CLOSED_FORMS,
    )


def needed_bytes(image_dim: int, text_dim: int, val_images: int, val_texts: int) -> int:
    """Return the most that closed forms take of memory."""
    narrow, wide = sorted((image_dim, text_dim))
    # The cross-covariance, for two regularisers, in the coordinates of the narrower modality; directions, and the
    # maps of the best.
    canonical = 6 * narrow * wide + 10 * narrow**2
    # The identity that ridge regression maps texts with, in float32: in the model and in its file.
    ridge = text_dim**2 + 2 * narrow * wide
    # The axes of standardised rows: a scaled covariance, LAPACK's copy and work, and the vectors of both in float32.
    axes = 5 * wide**2
    rows = val_images * image_dim + val_texts * text_dim
    projections = (val_images + val_texts) * max(text_dim, 3 * narrow)
    matrices = torch.float64.itemsize * max(canonical, ridge, axes)
    return moment_bytes(image_dim, text_dim) + matrices + torch.float32.itemsize * (rows + projections) + FURTHER_BYTES


def model_of(pair: LinearPair) -> DualEncoder:
    """Return the linear head that computes exactly these maps of raw embeddings, which it holds itself."""
    output_dim, image_dim = pair.image_map.shape
    model = DualEncoder({"type": "linear", "output_dim": output_dim}, image_dim, pair.text_map.shape[1])
    model.image_statistics.mean.copy_(pair.image_mean)
    model.text_statistics.mean.copy_(pair.text_mean)
    for tower, weights in ((model.image_tower, pair.image_map), (model.text_tower, pair.text_map)):
        tower.weight = nn.Parameter(weights)
        nn.init.zeros_(tower.bias)
    return model.eval()
