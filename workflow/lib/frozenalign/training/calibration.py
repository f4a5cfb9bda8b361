"""The start of a loss's temperature and bias: those with the lowest loss on the validation features at the start."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import ResidentPairs
from frozenalign.losses.registry import ContrastiveLoss
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.random_state import own_random_numbers
from frozenalign.training.augmentation import Augmentation
from frozenalign.training.micro_batches import parts_of
from frozenalign.training.steps import tower_outputs

logger = logging.getLogger(__name__)
# Anchors, at least, where the data have as many images; keys of an anchor, at most.
ANCHORS = 512
KEYS = 1024
# Fewer images determine nothing.
FEWEST = 16
# Features that lower the loss by less than this share tell too little of the matches to be calibrated.
INFORMATIVE = 0.1
# Features with less of the loss left than this share separate all pairs: any low temperature does.
SEPARATED = 0.01
TEMPERATURES = (0.005, 1.0)
# Beyond the temperatures, so that a minimum at their ends is seen.
LOG_SCALES = (-2.0, 7.0)
SMALLEST_CHANGE = 1e-10


def calibrate(
    model: DualEncoder, loss: ContrastiveLoss, val: ResidentPairs, augmentation: Augmentation, batch_size: float
) -> dict[str, Any]:
    """Return the automatic scalars of a loss that fit the features of validation pairs best, and the loss there.

    A start such as the CCA separates the pairs that it was fitted to better than others: they would give too low a
    temperature. Where the features do not determine the scalars, because they start at random, have collapsed, or
    separate all pairs, these stay as they are and the result is empty. The generators of random numbers stay as they
    are.

    batch_size: pairs of a batch, in the mean. Batches are compared as in training: disturbed, as many negatives.
    """
    pairs = _pairs_of_distinct_images(val.text_image.cpu().numpy())
    negatives = loss.negatives(max(2, round(batch_size)))
    keys = min(negatives + 1, KEYS, len(pairs))
    if len(pairs) < FEWEST:
        return _undetermined(loss, f"fewer than {FEWEST} images")
    count = keys * max(1, min(ANCHORS, len(pairs)) // keys)
    features = _features(model, val, torch.from_numpy(pairs[:count]), augmentation)
    similarities = _similarities(*features, keys)
    weight = negatives / (keys - 1)
    before = _value(loss, similarities, weight, loss.scalars())
    if not np.isfinite(before):
        return _undetermined(loss, "the features are not finite")
    without = _fitted(loss, torch.zeros_like(similarities[:1, :2]), weight, loss.fitted)[1]
    found, lowest = _fitted(loss, similarities, weight, loss.fitted)
    if reason := _doubt(loss, found["temperature"], lowest / without):
        return _undetermined(loss, reason)
    chosen = {name: found[name] for name in loss.fitted}
    logger.info("calibrated start: %s, loss %.4g -> %.4g on %d pairs", _text(chosen), before, lowest, count)
    return {**chosen, "loss_before": before, "loss": lowest, "pairs": count}


def _doubt(loss: ContrastiveLoss, temperature: float, left: float) -> str | None:
    """Return why a fit determines nothing; left: its share of the loss that features without information have."""
    low, high = max(TEMPERATURES[0], loss.bounds[0]), min(TEMPERATURES[1], loss.bounds[1])
    if not left < 1 - INFORMATIVE:
        return "the features do not tell which pairs match yet"
    if left < SEPARATED:
        return "the features separate all pairs"
    if "temperature" in loss.fitted and not low < temperature < high:
        return f"the best temperature is not in [{low:g}, {high:g}]"
    return None


def _undetermined(loss: ContrastiveLoss, why: str) -> dict[str, Any]:
    kept = {name: value for name, value in loss.scalars().items() if name in loss.fitted}
    logger.info("start without calibration: %s: %s", _text(kept), why)
    return {}


def _text(scalars: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in scalars.items())


def _pairs_of_distinct_images(text_image: np.ndarray) -> np.ndarray:
    """Return one pair of each image, in an order that is random and always the same."""
    generator = np.random.default_rng(0)
    order = generator.permutation(len(text_image))
    _, first = np.unique(text_image[order], return_index=True)
    return generator.permutation(order[first])


@torch.no_grad()
def _features(
    model: DualEncoder, val: ResidentPairs, pairs: Tensor, augmentation: Augmentation
) -> tuple[Tensor, Tensor]:
    """Return the unit vectors (N, D) of pairs (N,) with noise and input dropout, without mixing and dropout."""
    pairs, training = pairs.to(val.text_image.device), model.training
    model.eval()
    by_part = []
    with own_random_numbers(val.device, 0):
        for part in parts_of(len(pairs), ANCHORS):
            images, texts, _ = val.batch(pairs[part])
            images, texts = augmentation(images, texts, 1.0)
            by_part.append([rows.cpu().double() for rows in tower_outputs(model, images, texts)[:2]])
    model.train(training)
    x, y = (torch.cat(parts) for parts in zip(*by_part, strict=True))
    return x, y


def _similarities(x: Tensor, y: Tensor, keys: int) -> Tensor:
    """Return x yᵀ, then y xᵀ, of each batch of `keys` pairs, (2K, A, keys): of its first A ≤ ANCHORS."""
    x, y = (rows.view(-1, keys, rows.shape[1]) for rows in (x, y))
    return torch.cat([x[:, :ANCHORS] @ y.mT, y[:, :ANCHORS] @ x.mT])


def _value(loss: ContrastiveLoss, similarities: Tensor, weight: float, scalars: dict[str, float]) -> float:
    """Return the loss of similarities (…, A, C) at these scalars."""
    return loss.of_logits(similarities / scalars["temperature"] + scalars.get("bias", 0.0), weight).item()


def _fitted(
    loss: ContrastiveLoss, similarities: Tensor, weight: float, names: Sequence[str]
) -> tuple[dict[str, float], float]:
    """Return the scalars with the lowest loss, those not in `names` as they are, and this loss.

    The loss is convex in scale and bias; the logarithm of the scale keeps it positive, and a limit keeps it finite.
    """
    start = loss.scalars()
    free = {
        "temperature": -torch.tensor(start["temperature"], dtype=torch.float64).log(),
        "bias": torch.tensor(start.get("bias", 0.0), dtype=torch.float64),
    }
    for name in names:
        free[name].requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [free[name] for name in names],
        max_iter=100,
        tolerance_grad=1e-9,
        tolerance_change=SMALLEST_CHANGE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        # One direction after the other holds half the memory.
        directions = similarities.chunk(2)
        for one in directions:
            logits = one * _scale(free["temperature"]) + free["bias"]
            value = loss.of_logits(logits, weight) / len(directions)
            value.backward()
            total += value.detach()
        return total

    optimizer.step(closure)
    found = {"temperature": 1 / _scale(free["temperature"]).item(), "bias": free["bias"].item()}
    found = {name: found[name] for name in start}
    return found, _value(loss, similarities, weight, found)


def _scale(logarithm: Tensor) -> Tensor:
    return logarithm.clamp(*LOG_SCALES).exp()
