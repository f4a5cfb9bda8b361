"""What a head begins with: maps of a closed form, the whitening of its inputs."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.closed_forms.baselines import Candidate, LinearPair, PrincipalAxes
from frozenalign.closed_forms.choice import choose_maps
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import ResidentPairs, resident_chunks
from frozenalign.models.dual_encoder import DualEncoder, TowerBesidePath, WhitenedTower
from frozenalign.models.heads import LinearTower


def start_from_closed_form(
    model: DualEncoder, train: ResidentPairs, val: ResidentPairs, known: dict[int, Candidate] | None = None
) -> None:
    """Replace random weights where `init` or `skip` asks for it; validation pairs choose the regularisers.

    The pairs are standardised by the model's own statistics, which must be in place.
    known: closed forms of these pairs by the width of their maps; one that is missing is computed and kept there.
    """
    if isinstance(model.head, LinearTower) and model.head.init == "cca":
        layers = model.image_tower, model.text_tower
    elif isinstance(model.image_tower, TowerBesidePath):
        layers = model.image_tower.path, model.text_tower.path
    else:
        return
    pair = closed_form(model, train, val, {} if known is None else known).pair
    _fill(layers[0], pair.image_map, pair.image_mean)
    _fill(layers[1], pair.text_map, pair.text_mean)


def closed_form(model: DualEncoder, train: ResidentPairs, val: ResidentPairs, known: dict[int, Candidate]) -> Candidate:
    """Return the regularised CCA of the training pairs, at most as wide as the model's output, for standardised rows.

    It is fitted in the encoders' own scales, like the baseline: standardising lifts directions that hold only noise.
    known: as for `start_from_closed_form`.
    """
    width = model.settings["output_dim"]
    if width not in known:
        known[width] = _standardized_cca(model, train, val, width)
    return known[width]


def whiten(model: DualEncoder, train: ResidentPairs) -> None:
    """Fill the whitening of both towers, if they have one, from the standardised training pairs.

    Kessy et al. 2018, Optimal Whitening and Decorrelation: (V λ^(-1/2))ᵀ for PCA, V λ^(-1/2) Vᵀ for ZCA.
    """
    layers = [module for module in model.modules() if isinstance(module, WhitenedTower)]
    if not layers:
        return
    moments = Moments.of(resident_chunks(_where_float64_is(train)))
    for layer, covariance in zip(layers, (moments.image_covariance, moments.text_covariance), strict=True):
        axes = PrincipalAxes.of(covariance)
        matrix = axes.whitening(model.settings["shrinkage"])[:, None] * axes.vectors.T
        layer.matrix.copy_(axes.vectors @ matrix if model.settings["whitening"] == "zca" else matrix)


def _where_float64_is(pairs: ResidentPairs) -> ResidentPairs:
    """Return pairs on their device, or on the CPU where the device has no float64."""
    return pairs.to(torch.device("cpu")) if pairs.images.device.type == "mps" else pairs


def _standardized_cca(model: DualEncoder, train: ResidentPairs, val: ResidentPairs, width: int) -> Candidate:
    train, val = _where_float64_is(train), _where_float64_is(val)
    device = train.images.device
    image_scale, text_scale = model.image_statistics.scale.to(device), model.text_statistics.scale.to(device)
    chunks = ((images * image_scale, texts * text_scale) for images, texts in resident_chunks(train))
    own_val = ResidentPairs(val.images * image_scale, val.texts * text_scale, val.text_image)
    chosen = choose_maps("cca", chunks, own_val, width).candidate
    pair = LinearPair(
        image_map=chosen.pair.image_map * image_scale,
        image_mean=chosen.pair.image_mean / image_scale,
        text_map=chosen.pair.text_map * text_scale,
        text_mean=chosen.pair.text_mean / text_scale,
    )
    return Candidate(chosen.chosen, pair)


@torch.no_grad()
def _fill(layer: nn.Linear, weights: Tensor, mean: Tensor) -> None:
    """Let a layer compute (x - mean) weightsᵀ in the scale of its random weights; spare outputs start at zero."""
    weights, mean = weights.to(layer.weight.device), mean.to(layer.weight.device)
    # A single weight, or equal ones, have no spread.
    if weights.numel() > 1 and (spread := weights.std()) > 0:
        weights = weights * (layer.weight.std() / spread)
    layer.weight.copy_(functional.pad(weights, (0, 0, 0, layer.out_features - len(weights))))
    layer.bias.copy_(-layer.weight @ mean)
