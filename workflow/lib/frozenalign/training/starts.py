"""Initial values of a head: maps of a closed form, the whitening of its inputs, the prototypes of its hub penalty."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.closed_forms.canonical_maps import (
    OUTPUT_DIMS,
    CanonicalMaps,
    choose_canonical_maps,
    load_canonical_maps,
)
from frozenalign.closed_forms.choice import refuse_too_wide
from frozenalign.closed_forms.decompositions import PrincipalAxes
from frozenalign.closed_forms.registry import Candidate, LinearPair
from frozenalign.configuration.result_files import checked_facts
from frozenalign.data.inputs import Inputs
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import ResidentPairs, TrainingPairs, pair_chunks
from frozenalign.models.dual_encoder import DualEncoder, Standardize, TowerBesidePath, WhitenedTower, unit
from frozenalign.models.heads import LinearTower
from frozenalign.models.hub_penalty import PenalizedTower, without_penalty
from frozenalign.system.errors import UserError
from frozenalign.training.data import TrainingData, where_float64_is


def read_start(path: Path, inputs: Inputs, train: Collection[str]) -> CanonicalMaps:
    """Read what heads start from; what was fitted to other inputs is a UserError.

    train: the digests of the training rows that it may be fitted to.
    """
    maps, facts = load_canonical_maps(path)
    fitted = Inputs(**checked_facts(facts, path)["inputs"])
    if replace(fitted, train=inputs.train) != inputs or fitted.train not in train:
        raise UserError(f"{path} was fitted to other pairs than this split's: run the step baselines again")
    return maps


def fit_start(data: TrainingData, output_dims: Sequence[int] = OUTPUT_DIMS) -> CanonicalMaps:
    """Fit the CCA of the training pairs in memory, for heads of these output widths.

    It is fitted in the encoders' own scales, like the baseline: standardising would amplify directions of pure noise.
    """
    train, val = where_float64_is(data.train), where_float64_is(data.val)
    refuse_too_wide(*train.widths, len(val.images), len(val.texts))
    image, text = data.image.to(train.device), data.text.to(train.device)
    chunks = ((images * image.scale, texts * text.scale) for images, texts in pair_chunks(train))
    own_val = ResidentPairs(val.images * image.scale, val.texts * text.scale, val.text_image)
    maps = CanonicalMaps.of(choose_canonical_maps(Moments.of(chunks).to_cpu(), own_val, output_dims))

    def uncentred(maps: Candidate) -> Candidate:
        image_mean, text_mean = maps.pair.image_mean + data.image.mean, maps.pair.text_mean + data.text.mean
        return Candidate(maps.chosen, replace(maps.pair, image_mean=image_mean, text_mean=text_mean))

    return CanonicalMaps(uncentred(maps.widest), {width: uncentred(each) for width, each in maps.narrower.items()})


def start_from(model: DualEncoder, pair: LinearPair) -> None:
    """Replace random weights by maps of raw rows where `init` or `skip` is `cca`; the model has its statistics."""
    towers = [without_penalty(tower) for tower in (model.image_tower, model.text_tower)]
    if isinstance(model.head, LinearTower) and model.head.init == "cca":
        layers = towers
    elif isinstance(towers[0], TowerBesidePath):
        layers = [tower.path for tower in towers]
    else:
        return
    _fill(layers[0], pair.image_map, pair.image_mean, model.image_statistics)
    _fill(layers[1], pair.text_map, pair.text_mean, model.text_statistics)


def whiten(model: DualEncoder, data: TrainingData, axes: tuple[PrincipalAxes, PrincipalAxes] | None = None) -> None:
    """Fill the whitening matrices of both towers, if they have one, by the axes of the standardised training pairs.

    axes: of images and texts, where they are known; else they are found from the pairs.

    Kessy et al. 2018, Optimal Whitening and Decorrelation: (V λ^(-1/2))ᵀ for PCA, V λ^(-1/2) Vᵀ for ZCA.
    """
    layers = [module for module in model.modules() if isinstance(module, WhitenedTower)]
    if not layers:
        return
    for layer, each in zip(layers, axes or data.principal_axes, strict=True):
        matrix = each.whitening(model.settings["shrinkage"])[:, None].float() * each.vectors.T
        layer.matrix.copy_(each.vectors @ matrix if model.settings["whitening"] == "zca" else matrix)


@torch.no_grad()
def place_prototypes(model: DualEncoder, train: TrainingPairs) -> None:
    """Set the prototypes of a model's hub penalty, if it has one, to its own vectors of pairs spread over the training.

    Those of one modality are what the other modality's rows are compared to. The model is on the device of the pairs.
    """
    towers = model.image_tower, model.text_tower
    if not isinstance(towers[0], PenalizedTower):
        return
    model.eval()
    count = len(towers[0].prototypes)
    pairs = torch.linspace(0, len(train) - 1, count, dtype=torch.float64).long().to(train.text_image.device)
    rows = [batch.float() for batch in train.batch(pairs)[:2]]
    vectors = [unit(tower.tower(each)) for tower, each in zip(towers, rows, strict=True)]
    for tower, own, others in zip(towers, vectors, reversed(vectors), strict=True):
        tower.prototypes.copy_(others)
        tower.offset.copy_(tower.closeness(own).mean())


@torch.no_grad()
def _fill(layer: nn.Linear, weights: Tensor, mean: Tensor, statistics: Standardize) -> None:
    """Set a layer to (x - mean) weightsᵀ of raw rows x, given standardised ones, in the scale of its random weights.

    Spare outputs start at zero.
    """
    mean = (mean.to(layer.weight.device) - statistics.mean) / statistics.scale
    weights = weights.to(layer.weight.device) * statistics.scale
    # A single weight, or equal ones, have no spread.
    if weights.numel() > 1 and (spread := weights.std()) > 0:
        weights = weights * (layer.weight.std() / spread)
    layer.weight.copy_(functional.pad(weights, (0, 0, 0, layer.out_features - len(weights))))
    layer.bias.copy_(-layer.weight @ mean)
