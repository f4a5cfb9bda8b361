"""The choice of a baseline's hyperparameters by validation, and its maps as a model."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from frozenalign.closed_forms.baselines import cca_by_width
from frozenalign.closed_forms.registry import BASELINES, Candidate, LinearPair
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import ResidentPairs
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.models.dual_encoder import DualEncoder, unit


@dataclass(frozen=True)
class ChosenMaps:
    """The candidate of a baseline with the highest validation RSUM; warnings where validation could not choose."""

    candidate: Candidate
    rsum: float
    warnings: list[str]


def choose_maps(name: str, moments: Moments, val: ResidentPairs, output_dim: int | None = None) -> ChosenMaps:
    """Return the candidate of a baseline that is best by the RSUM of the validation pairs, raw ones.

    output_dim: the most dimensions that the maps may keep, or None for all.
    """
    candidates = ((None, candidate) for candidate in BASELINES[name](moments, output_dim))
    if not (chosen := _best_of_each(candidates, val)):
        raise ValueError(f"the baseline {name!r} yields no candidate")
    return chosen[None]


def choose_cca(moments: Moments, val: ResidentPairs, output_dims: Sequence[int | None]) -> dict[int | None, ChosenMaps]:
    """Return the best maps of the CCA for each of `output_dims`: other regularisers may suit fewer dimensions."""
    return _best_of_each(cca_by_width(moments, output_dims), val)


def _best_of_each(
    candidates: Iterable[tuple[int | None, Candidate]], val: ResidentPairs
) -> dict[int | None, ChosenMaps]:
    """Return the best of the candidates that stand beside the same key."""
    best: dict[int | None, Candidate] = {}
    rsums: dict[int | None, list[float]] = {}
    for key, candidate in candidates:
        rsum = _rsum(candidate.pair, val)
        if rsum > max(rsums.setdefault(key, []), default=-math.inf):
            best[key] = candidate
        rsums[key].append(rsum)
    return {key: ChosenMaps(best[key], max(found), _choice_warnings(found)) for key, found in rsums.items()}


def _choice_warnings(rsums: Sequence[float]) -> list[str]:
    if len(rsums) < 2 or len(set(rsums)) > 1:
        return []
    return [f"validation RSUM is {rsums[0]:.1f} for every regulariser, so that none was chosen: give val more images"]


def _rsum(pair: LinearPair, val: ResidentPairs) -> float:
    images = unit((val.images.float() - pair.image_mean) @ pair.image_map.T)
    texts = unit((val.texts.float() - pair.text_mean) @ pair.text_map.T)
    return summarize(retrieval_ranks(images, texts, val.text_image))["RSUM"]


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
