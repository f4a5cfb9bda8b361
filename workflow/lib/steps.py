"""One step of training: what an interruption must not lose, and what a batch changes in it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workflow.lib.augmentation import Augmentation
from workflow.lib.averaging import WeightAverage
from workflow.lib.dual_encoder import DualEncoder, MomentumCopy, unit
from workflow.lib.geometry import structure_loss
from workflow.lib.matching import matching_loss
from workflow.lib.optimizer import AdamW
from workflow.lib.settings import TrainingSettings


@dataclass
class Fit:
    """A training in progress: everything that an interruption must not lose."""

    model: DualEncoder
    loss: nn.Module
    momentum_copy: MomentumCopy | None
    average: WeightAverage | None
    augmentation: Augmentation
    optimizer: AdamW
    learning_rate: Callable[[int], float]
    epoch: int = 0
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf
    best_state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def kept_model(self) -> DualEncoder:
        """Return the model that validation sees and the best epoch keeps: the averaged one if there is one."""
        return self.average.model if self.average else self.model


def train_step(
    state: Fit, batch: tuple[Tensor, Tensor, Tensor], mixed_share: float, settings: TrainingSettings
) -> Tensor:
    """Take one optimiser step on images (B, D_image), texts (B, D_text), image indices (B,); return the loss.

    mixed_share: λ of the step, where pairs are mixed.
    """
    images, texts, image_index = batch
    images, texts = state.augmentation(images, texts, mixed_share)
    model, loss = state.model, state.loss
    keys: tuple[Tensor, ...] = ()
    if state.momentum_copy:
        state.momentum_copy.update(model)
        with torch.no_grad():
            keys = _features(state.momentum_copy, images, texts)
    value = _loss(state, images, texts, image_index, keys, settings.structure)
    state.optimizer.zero_grad()
    value.backward()
    state.optimizer.step(state.learning_rate(state.step), settings.gradient_clip)
    if state.average:
        state.average.update(model, state.step)
    state.step += 1
    loss.after_step()
    if keys:
        loss.enqueue(*keys, image_index)
    return value.detach()


def _autocast(rows: Tensor) -> torch.autocast:
    return torch.autocast(rows.device.type, dtype=rows.dtype, enabled=rows.dtype == torch.bfloat16)


def _features(model: DualEncoder | MomentumCopy, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unit vectors (B, D) of standardised images and texts."""
    with _autocast(images):
        return unit(model.image_tower(images)), unit(model.text_tower(texts))


def _loss(
    state: Fit, images: Tensor, texts: Tensor, image_index: Tensor, keys: tuple[Tensor, ...], structure: float
) -> Tensor:
    """Return the contrastive loss, with the structure penalty and the matching loss where the head has them."""
    x, y, tokens = _features_with_tokens(state.model, images, texts)
    value = state.loss(x, y, image_index, *keys)
    if structure:
        value = value + structure * (structure_loss(images, x) + structure_loss(texts, y))
    if tokens:
        with _autocast(images):
            value = value + matching_loss(state.model.scorer, *tokens, x @ y.T, image_index)
    return value


def _features_with_tokens(
    model: DualEncoder, images: Tensor, texts: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """Return unit vectors (B, D) of both modalities, and their tokens where a pair scorer asks for them."""
    if model.scorer is None:
        return *_features(model, images, texts), None
    with _autocast(images):
        x, image_tokens = model.image_tower.with_tokens(images)
        y, text_tokens = model.text_tower.with_tokens(texts)
        return unit(x), unit(y), (image_tokens, text_tokens)
