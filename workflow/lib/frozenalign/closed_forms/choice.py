"""The choice of a baseline's hyperparameters by validation, and its maps as a model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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


def choose_maps(
    name: str, chunks: Iterable[tuple[Tensor, Tensor]], val: ResidentPairs, output_dim: int | None = None
) -> ChosenMaps:
    """Fit a baseline to chunks of training pairs and return its best candidate by the RSUM of the validation pairs.

    output_dim: the most dimensions that the maps may keep, or None for all.
    """
    best: Candidate | None = None
    rsums: list[float] = []
    for candidate in BASELINES[name](Moments.of(chunks), output_dim):
        rsum = _rsum(candidate.pair, val)
        if best is None or rsum > max(rsums):
            best = candidate
        rsums.append(rsum)
    if best is None:
        raise ValueError(f"the baseline {name!r} yields no candidate")
    return ChosenMaps(best, max(rsums), _choice_warnings(rsums))


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
