"""Closed-form maps as models: a baseline saved like any head, and the start of a head from a closed form."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from workflow.lib.baselines import BASELINES, Candidate, LinearPair, Moments, PrincipalAxes
from workflow.lib.batches import PairFiles, ResidentPairs
from workflow.lib.dual_encoder import DualEncoder, unit
from workflow.lib.heads import LinearTower, TowerBesidePath, WhitenedTower
from workflow.lib.metrics import summarize
from workflow.lib.retrieval import retrieval_ranks

PAIRS_AT_ONCE = 4096
CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class ChosenMaps:
    """The candidate of a baseline with the highest validation RSUM; warnings where validation could not choose."""

    candidate: Candidate
    rsum: float
    warnings: list[str]


def resident_chunks(pairs: ResidentPairs) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (b, D_image) and texts (b, D_text) of consecutive pairs."""
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        chunk = slice(start, start + PAIRS_AT_ONCE)
        yield pairs.images[pairs.text_image[chunk]], pairs.texts[chunk]


def file_chunks(files: PairFiles) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (b, D_image) and texts (b, D_text) of consecutive pairs, holding the images but no more texts.

    The texts stand until the next are asked for.
    """
    images = torch.cat([chunk.clone() for _, chunk in files.images.select(files.split.image_rows)])
    text_image = torch.from_numpy(files.split.text_image)
    for where, texts in files.texts.select(files.split.text_rows, CHUNK_BYTES):
        yield images[text_image[where]], texts


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
