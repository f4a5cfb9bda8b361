"""The fit loop: steps, schedule, validation after every epoch, early stopping, resuming."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from workflow.lib.baselines import LinearPair
from workflow.lib.batches import (
    PairFiles,
    ResidentPairs,
    Statistics,
    batch_count,
    deal_pairs,
    load_pairs,
    row_statistics,
)
from workflow.lib.checkpoints import read_training_state, write_training_state
from workflow.lib.dual_encoder import DualEncoder, MomentumCopy, unit
from workflow.lib.errors import UserError
from workflow.lib.losses import QueueLoss, build_loss
from workflow.lib.matching import matching_loss
from workflow.lib.metrics import summarize
from workflow.lib.optimizer import AdamW, warmup_cosine
from workflow.lib.projections import project_standardized
from workflow.lib.settings import Experiment, TrainingSettings
from workflow.lib.starting_points import start_from_closed_form

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class TrainingData:
    """Standardised pairs to train on and to choose by, with the statistics that standardised them.

    closed_forms: their regularised CCA by the width of its maps, kept for the next head that starts from it.
    """

    train: ResidentPairs
    val: ResidentPairs
    image: Statistics
    text: Statistics
    closed_forms: dict[int, LinearPair] = field(default_factory=dict)

    def to(self, device: torch.device) -> "TrainingData":
        """Return the same data on a device."""
        return TrainingData(self.train.to(device), self.val.to(device), self.image, self.text)


def load_training_data(train: PairFiles, val: PairFiles, compute: torch.dtype) -> TrainingData:
    """Read the training and validation pairs, standardised by the training rows, for steps in `compute`.

    Rows are held in 16 bits either way: standardised values need little range, so that float16 keeps 11 bits of each.
    """
    image = row_statistics(train.images, train.split.image_rows)
    text = row_statistics(train.texts, train.split.text_rows)
    held = torch.float16 if compute == torch.float32 else compute
    train_pairs, val_pairs = (load_pairs(files, image, text, held, compute) for files in (train, val))
    return TrainingData(train_pairs, val_pairs, image, text)


@dataclass
class Fit:
    """A training in progress: everything that an interruption must not lose."""

    model: DualEncoder
    loss: nn.Module
    momentum_copy: MomentumCopy | None
    optimizer: AdamW
    learning_rate: Callable[[int], float]
    epoch: int = 0
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf
    best_state: dict[str, Tensor] = field(default_factory=dict)


def fit(
    experiment: Experiment,
    data: TrainingData,
    seed: int,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    checkpoint: Path | None = None,
    fingerprint: str = "",
) -> Fit:
    """Train a head and return it with its best weights loaded.

    data lies on the device that computes. on_epoch sees every epoch's record and may raise to stop. With a checkpoint
    path, training goes on from the file there if it was written under the same fingerprint.
    """
    settings = experiment.training
    state = start(experiment, data, seed)
    if checkpoint and read_training_state(checkpoint, state, fingerprint):
        logger.info("going on after epoch %d, from %s", state.epoch, checkpoint)
    else:
        _validate(state, data, settings, {"epoch": 0}, on_epoch)
    saved_at = time.monotonic()
    while state.epoch < settings.num_epochs and state.epoch - state.best_epoch < settings.patience:
        record = train_epoch(state, data, settings, seed)
        _validate(state, data, settings, record, on_epoch)
        if checkpoint and time.monotonic() - saved_at > CHECKPOINT_SECONDS:
            write_training_state(checkpoint, state, fingerprint)
            saved_at = time.monotonic()
    state.model.load_state_dict(state.best_state)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return state


def start(experiment: Experiment, data: TrainingData, seed: int) -> Fit:
    """Return a training before its first step; data lies on the device that computes."""
    torch.manual_seed(seed)
    settings, device = experiment.training, data.train.images.device
    model = DualEncoder(experiment.model, data.train.images.shape[1], data.train.texts.shape[1])
    data.image.fill(model.image_statistics)
    data.text.fill(model.text_statistics)
    start_from_closed_form(model, data.train, data.val, data.closed_forms)
    model.to(device)
    loss = build_loss(experiment.loss, settings.batch_size).to(device)
    if not getattr(model.head, "learnable_temp", True):
        loss.freeze_temperature()
    optimizer = AdamW([model, loss], settings.weight_decay)
    steps = settings.num_epochs * batch_count(data.train.text_image.cpu().numpy(), settings.batch_size)
    learning_rate = warmup_cosine(settings.learning_rate, settings.warmup_steps, steps)
    return Fit(model, loss, _momentum_copy(model, loss), optimizer, learning_rate)


def _momentum_copy(model: DualEncoder, loss: nn.Module) -> MomentumCopy | None:
    """Return a momentum copy if the loss needs one; the loss's own momentum goes before the head's and the default."""
    if not isinstance(loss, QueueLoss):
        return None
    choices = (loss.momentum, getattr(model.head, "momentum", None), loss.default_momentum)
    return MomentumCopy(model, next(value for value in choices if value is not None)).eval()


def train_epoch(state: Fit, data: TrainingData, settings: TrainingSettings, seed: int) -> dict[str, Any]:
    """Take one epoch's steps and return its record."""
    generator = np.random.default_rng([seed, state.epoch])
    batches = list(deal_pairs(data.train.text_image.cpu().numpy(), settings.batch_size, generator))
    pairs_of_epoch = _uploaded(np.concatenate(batches), data.train.images.device).split([len(b) for b in batches])
    total = torch.zeros((), device=data.train.images.device)
    learning_rate = state.learning_rate(state.step)
    state.model.train()
    began = time.perf_counter()
    shown = tqdm(pairs_of_epoch, f"epoch {state.epoch + 1}", leave=False, disable=None, unit="batch")
    for step, pairs in enumerate(shown):
        if len(pairs) > 1:
            state.loss.start_step(state.epoch + step / len(batches))
            total += len(pairs) * _train_step(state, data.train.batch(pairs), settings.gradient_clip)
    mean_loss = total.item() / len(data.train)
    state.epoch += 1
    if not math.isfinite(mean_loss):
        raise UserError(
            f"the loss became {mean_loss} in epoch {state.epoch} at a learning rate of {learning_rate:.3g}: "
            "lower training.learning_rate, or set training.gradient_clip"
        )
    return {
        "epoch": state.epoch,
        "loss": mean_loss,
        "learning_rate": learning_rate,
        "pairs_per_second": len(data.train) / (time.perf_counter() - began),
    }


def _uploaded(pairs: np.ndarray, device: torch.device) -> Tensor:
    """Return an epoch's pairs (M,) on the device, in one copy that the GPU need not wait for."""
    indices = torch.from_numpy(pairs)
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)


def _train_step(state: Fit, batch: tuple[Tensor, Tensor, Tensor], gradient_clip: float) -> Tensor:
    """Take one optimiser step on images (B, D_image), texts (B, D_text), image indices (B,); return the loss."""
    images, texts, image_index = batch
    model, loss = state.model, state.loss
    keys: tuple[Tensor, ...] = ()
    if state.momentum_copy:
        state.momentum_copy.update(model)
        with torch.no_grad():
            keys = _features(state.momentum_copy, images, texts)
    if model.scorer is None:
        value = loss(*_features(model, images, texts), image_index, *keys)
    else:
        value = _loss_with_matching(model, loss, images, texts, image_index, keys)
    state.optimizer.zero_grad()
    value.backward()
    state.optimizer.step(state.learning_rate(state.step), gradient_clip)
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


def _loss_with_matching(
    model: DualEncoder, loss: nn.Module, images: Tensor, texts: Tensor, image_index: Tensor, keys: tuple[Tensor, ...]
) -> Tensor:
    """Return the contrastive loss plus the matching loss on hard negatives of the batch."""
    with _autocast(images):
        x, image_tokens = model.image_tower.with_tokens(images)
        y, text_tokens = model.text_tower.with_tokens(texts)
        x, y = unit(x), unit(y)
    contrastive = loss(x, y, image_index, *keys)
    with _autocast(images):
        return contrastive + matching_loss(model.scorer, image_tokens, text_tokens, x @ y.T, image_index)


def _validate(
    state: Fit,
    data: TrainingData,
    settings: TrainingSettings,
    record: dict[str, Any],
    on_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Complete an epoch's record with validation metrics, keep the weights if they are the best, and pass it on."""
    summary = summarize(project_standardized(state.model, data.val).ranks())
    value = monitored(summary, settings.monitor)
    record["val"] = summary
    record["loss_terms"] = {name: term.item() for name, term in state.loss.terms().items()}
    if value > state.best_value:
        state.best_epoch, state.best_value = state.epoch, value
        state.best_state = {name: tensor.detach().clone() for name, tensor in state.model.state_dict().items()}
    speed = record.pop("pairs_per_second", None)
    state.history.append(record)
    _log(record, settings, best=state.best_epoch == state.epoch, speed=speed, pairs=len(data.train))
    on_epoch(record)


def monitored(summary: dict[str, Any], monitor: str) -> float:
    """Return the metric of a summary that `training.monitor` names."""
    if monitor == "RSUM":
        return summary["RSUM"]
    direction, metric = monitor.split()
    return summary[direction][metric]


def _log(record: dict[str, Any], settings: TrainingSettings, best: bool, speed: float | None, pairs: int) -> None:
    val = record["val"]
    recalls = "  ".join(
        f"{direction} " + "/".join(f"{val[direction][name]:.1f}" for name in ("R@1", "R@5", "R@10"))
        for direction in ("i2t", "t2i")
    )
    terms = "".join(f"  {name} {value:.4g}" for name, value in record["loss_terms"].items())
    trained = ""
    if speed:
        left = (settings.num_epochs - record["epoch"]) * pairs / speed
        trained = (
            f"loss {record['loss']:.4f}  lr {record['learning_rate']:.2e}  {speed:,.0f} pairs/s  ≤ {left:.0f} s left"
        )
    logger.info(
        "epoch %d/%d  val RSUM %.1f  %s%s  %s%s",
        record["epoch"],
        settings.num_epochs,
        val["RSUM"],
        recalls,
        terms,
        trained,
        "  best" if best else "",
    )
