"""What heads start from: the CCA, for outputs of any width, and the axes that whiten rows.

The file of the baseline `cca` holds both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozenalign.closed_forms.baselines import cca_by_width
from frozenalign.closed_forms.choice import ChosenMaps, best_of_each, model_of
from frozenalign.closed_forms.decompositions import PrincipalAxes
from frozenalign.closed_forms.registry import Candidate, LinearPair
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import ResidentPairs
from frozenalign.models.model_file import load_with, save_heads
from frozenalign.system.errors import UserError

KEY = "canonical_maps"
MODALITIES = ("image", "text")
# Output widths for which validation chooses separately. They are fixed, so that the file does not depend on the heads.
OUTPUT_DIMS = (16, 32, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class CanonicalMaps:
    """The CCA of the raw training pairs: the best maps of all dimensions, and those chosen for narrower outputs.

    axes: of the standardised images and texts, where they were found from the same moments.
    """

    widest: Candidate
    narrower: Mapping[int, Candidate]
    axes: tuple[PrincipalAxes, PrincipalAxes] | None = None

    @classmethod
    def of(
        cls, chosen: Mapping[int | None, ChosenMaps], axes: tuple[PrincipalAxes, PrincipalAxes] | None = None
    ) -> "CanonicalMaps":
        """Return the maps that `choose_canonical_maps` has chosen, with these axes."""
        candidates = {output_dim: maps.candidate for output_dim, maps in chosen.items()}
        return cls(candidates.pop(None), candidates, axes)

    def of_width(self, output_dim: int) -> Candidate:
        """Return the maps for an output of this width, or the first dimensions of the next wider ones."""
        widest = self.widest.pair
        if output_dim >= min(widest.image_map.shape[1], widest.text_map.shape[1]):
            return self.widest
        wide_enough = [self.narrower[width] for width in sorted(self.narrower) if width >= output_dim]
        maps = (wide_enough or [self.widest])[0]
        image_map, text_map = maps.pair.image_map[:output_dim], maps.pair.text_map[:output_dim]
        return Candidate(maps.chosen, replace(maps.pair, image_map=image_map, text_map=text_map))


def choose_canonical_maps(
    moments: Moments, val: ResidentPairs, output_dims: Sequence[int] = OUTPUT_DIMS
) -> dict[int | None, ChosenMaps]:
    """Return the best maps of the CCA for all dimensions (None) and for each narrower output.

    Other regularisers may suit fewer dimensions.
    """
    widest = min(len(moments.image_mean), len(moments.text_mean))
    narrower = [width for width in output_dims if width < widest]
    return best_of_each(cca_by_width(moments, [None, *narrower]), val)


def save_canonical_maps(path: Path, maps: CanonicalMaps, facts: Mapping[str, Any]) -> None:
    """Write the best maps as a model, like any baseline, and with it the maps for narrower outputs, and the axes."""
    narrower = {
        output_dim: {"chosen": each.chosen, "image_map": each.pair.image_map, "text_map": each.pair.text_map}
        for output_dim, each in maps.narrower.items()
    }
    axes = {name: vars(each) for name, each in zip(MODALITIES, maps.axes or (), strict=False)}
    content = {"chosen": maps.widest.chosen, "narrower": narrower, "axes": axes}
    save_heads(path, model_of(maps.widest.pair), facts, {KEY: content})


def load_canonical_maps(path: Path) -> tuple[CanonicalMaps, dict[str, Any]]:
    """Read a file of `save_canonical_maps`; return the maps and the facts of the model."""
    model, facts, content = load_with(path, KEY)
    means = model.image_statistics.mean, model.text_statistics.mean
    try:
        weights = {"image_map": model.image_tower.weight, "text_map": model.text_tower.weight}
        widest = _candidate({"chosen": content["chosen"], **weights}, *means)
        narrower = {int(width): _candidate(each, *means) for width, each in content["narrower"].items()}
        axes = _axes(content["axes"], *means) if content["axes"] else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} holds no CCA: give best_model.pt of the baseline cca, or fit it again") from error
    return CanonicalMaps(widest, narrower, axes), facts


def _axes(saved: Mapping[str, Any], image_mean: Tensor, text_mean: Tensor) -> tuple[PrincipalAxes, PrincipalAxes]:
    """Return saved axes; raise ValueError if one is not finite or does not fit the width of its mean."""
    image, text = (PrincipalAxes(**saved[name]) for name in MODALITIES)
    for each, width in ((image, len(image_mean)), (text, len(text_mean))):
        for value, dtype, shape in (
            (each.values, torch.float64, (width,)),
            (each.vectors, torch.float32, (width,) * 2),
        ):
            if not (value.dtype == dtype and value.shape == shape and value.isfinite().all()):
                raise ValueError("axes")
    return image, text


def _candidate(saved: Mapping[str, Any], image_mean: Tensor, text_mean: Tensor) -> Candidate:
    """Return saved maps; raise ValueError if one is not finite or does not fit the width of its mean."""
    for name, mean in (("image_map", image_mean), ("text_map", text_mean)):
        weights = saved[name]
        fits = weights.dtype == torch.float32 and weights.shape == (len(saved["image_map"]), len(mean))
        if not (fits and weights.isfinite().all()):
            raise ValueError(name)
    chosen = {name: float(saved["chosen"][name]) for name in ("image_regularizer", "text_regularizer")}
    return Candidate(saved["chosen"] | chosen, LinearPair(image_mean, saved["image_map"], text_mean, saved["text_map"]))
