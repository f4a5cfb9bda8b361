"""The choice of a baseline's hyperparameters by validation, and its maps as a model."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from frozenalign.closed_forms.registry import BASELINES, Candidate, LinearPair
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import ResidentPairs
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.memory import refuse_beyond_memory

# Chunks of the pass over the rows and their products, tiles of scores, LAPACK's own buffers.
FURTHER_BYTES = 64 << 20


@dataclass(frozen=True)
class ChosenMaps:
    """The candidate with the highest validation RSUM, with a warning if all candidates have the same."""

    candidate: Candidate
    rsum: float
    warnings: list[str]


def choose_maps(name: str, moments: Moments, val: ResidentPairs, output_dim: int | None = None) -> ChosenMaps:
    """Return the candidate of a baseline with the highest RSUM on the raw validation pairs.

    output_dim: the most dimensions that the maps may keep, or None for all.
    """
    candidates = ((None, candidate) for candidate in BASELINES[name](moments, output_dim))
    if not (chosen := best_of_each(candidates, val)):
        raise ValueError(f"the baseline {name!r} yields no candidate")
    return chosen[None]


def best_of_each(
    candidates: Iterable[tuple[int | None, Candidate]], val: ResidentPairs
) -> dict[int | None, ChosenMaps]:
    """Return the best candidate of each key, given (key, candidate); of equally good ones the first."""
    best: dict[int | None, Candidate] = {}
    rsums: dict[int | None, list[float]] = {}
    for key, candidate in candidates:
        projections = candidate.pair.project(val.images, val.texts)
        rsum = summarize(retrieval_ranks(*projections, val.text_image))["RSUM"]
        # The others are not kept: their maps may take gigabytes together.
        if rsum > max(rsums.setdefault(key, []), default=-math.inf):
            best[key] = candidate
        rsums[key].append(rsum)
    return {key: ChosenMaps(best[key], max(found), _choice_warnings(found)) for key, found in rsums.items()}


def _choice_warnings(rsums: Sequence[float]) -> list[str]:
    if len(rsums) < 2 or len(set(rsums)) > 1:
        return []
    return [f"validation RSUM is {rsums[0]:.1f} for every regulariser, so that none was chosen: give val more images"]


def refuse_too_wide(image_dim: int, text_dim: int, val_values: int) -> None:
    """Refuse, before anything is read, closed forms whose decompositions memory does not hold.

    Beside the second moments, memory holds the principal axes of both modalities and the four matrices of the widest
    that LAPACK decomposes it with, in float64; val_values: numbers in the validation rows, held and projected.
    """
    squares = (image_dim + text_dim) ** 2 + image_dim**2 + text_dim**2 + 4 * max(image_dim, text_dim) ** 2
    refuse_beyond_memory(
        torch.float64.itemsize * squares + 2 * torch.float32.itemsize * val_values + FURTHER_BYTES,
        f"fitting closed forms of {image_dim} image and {text_dim} text dimensions",
        "give the job more, reduce the dimensions, or do without closed forms (`baselines: []`, and in experiments "
        "`skip: none`, `init: random` and a number for `noise`)",
    )


def model_of(pair: LinearPair) -> DualEncoder:
    """Return the linear head that computes exactly these maps of raw embeddings."""
    output_dim, image_dim = pair.image_map.shape
    model = DualEncoder({"type": "linear", "output_dim": output_dim}, image_dim, pair.text_map.shape[1])
    model.image_statistics.mean.copy_(pair.image_mean)
    model.text_statistics.mean.copy_(pair.text_mean)
    with torch.no_grad():
        for tower, weights in ((model.image_tower, pair.image_map), (model.text_tower, pair.text_map)):
            tower.weight.copy_(weights)
            tower.bias.zero_()
    return model.eval()
