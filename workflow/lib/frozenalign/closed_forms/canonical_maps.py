"""The CCA that heads start from: its maps for outputs of any width, as part of the file of the baseline `cca`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozenalign.closed_forms.choice import ChosenMaps, choose_cca, model_of
from frozenalign.closed_forms.registry import Candidate, LinearPair
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import ResidentPairs
from frozenalign.models.model_file import load_with, save_heads
from frozenalign.system.errors import UserError

KEY = "canonical_maps"
# Widths for which validation chooses of its own: whichever heads a run has, the file is the same.
OUTPUT_DIMS = (16, 32, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class CanonicalMaps:
    """The CCA of the training pairs, of raw rows: its best maps, and those that were chosen for narrower outputs."""

    widest: Candidate
    narrower: Mapping[int, Candidate]

    @classmethod
    def of(cls, chosen: Mapping[int | None, ChosenMaps]) -> "CanonicalMaps":
        """Take what `choose_cca` has chosen for all dimensions (None) and for narrower outputs."""
        candidates = {output_dim: maps.candidate for output_dim, maps in chosen.items()}
        return cls(candidates.pop(None), candidates)

    @property
    def dimensions(self) -> int:
        """Return how many dimensions a CCA of these embeddings can have."""
        pair = self.widest.pair
        return min(pair.image_map.shape[1], pair.text_map.shape[1])

    def of_width(self, output_dim: int) -> Candidate:
        """Return the maps for an output of this width, else the first dimensions of the next wider ones."""
        if output_dim >= self.dimensions:
            return self.widest
        wider = min((width for width in self.narrower if width >= output_dim), default=None)
        maps = self.widest if wider is None else self.narrower[wider]
        pair = maps.pair
        cut = LinearPair(pair.image_mean, pair.image_map[:output_dim], pair.text_mean, pair.text_map[:output_dim])
        return Candidate(maps.chosen, cut)


def choose_canonical_maps(
    moments: Moments, val: ResidentPairs, output_dims: Sequence[int] = OUTPUT_DIMS
) -> dict[int | None, ChosenMaps]:
    """Return the best maps of the CCA for all dimensions (None), and for each output that is narrower than those."""
    widest = min(len(moments.image_mean), len(moments.text_mean))
    return choose_cca(moments, val, [None, *(width for width in output_dims if width < widest)])


def save_canonical_maps(path: Path, maps: CanonicalMaps, facts: Mapping[str, Any]) -> None:
    """Write the best maps as a model, as of any baseline, and beside it the maps for narrower outputs."""
    narrower = {
        output_dim: {"chosen": each.chosen, "image_map": each.pair.image_map, "text_map": each.pair.text_map}
        for output_dim, each in maps.narrower.items()
    }
    further = {KEY: {"chosen": maps.widest.chosen, "narrower": narrower}}
    save_heads(path, model_of(maps.widest.pair), facts, further)


def load_canonical_maps(path: Path) -> tuple[CanonicalMaps, dict[str, Any]]:
    """Read what `save_canonical_maps` has written, with the facts of the model."""
    model, facts, content = load_with(path, KEY)
    means = model.image_statistics.mean, model.text_statistics.mean
    try:
        weights = {"image_map": model.image_tower.weight, "text_map": model.text_tower.weight}
        widest = _candidate({"chosen": content["chosen"], **weights}, *means)
        narrower = {int(width): _candidate(each, *means) for width, each in content["narrower"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} holds no CCA: give best_model.pt of the baseline cca, or fit it again") from error
    return CanonicalMaps(widest, narrower), facts


def _candidate(saved: Mapping[str, Any], image_mean: Tensor, text_mean: Tensor) -> Candidate:
    """Return saved maps; what is no finite map of rows as wide as the means is a ValueError."""
    for name, mean in (("image_map", image_mean), ("text_map", text_mean)):
        weights = saved[name]
        if weights.dtype != torch.float32 or weights.shape != (len(saved["image_map"]), len(mean)):
            raise ValueError(name)
        if not weights.isfinite().all():
            raise ValueError(name)
    chosen = {name: float(saved["chosen"][name]) for name in ("image_regularizer", "text_regularizer")}
    return Candidate(saved["chosen"] | chosen, LinearPair(image_mean, saved["image_map"], text_mean, saved["text_map"]))
