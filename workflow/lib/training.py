"""The fit loop: steps, schedule, validation after every epoch, early stopping, resuming."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from workflow.lib.augmentation import Augmentation
from workflow.lib.averaging import WeightAverage, exponential, renew_batch_norm, uniform
from workflow.lib.baselines import Candidate
from workflow.lib.batches import (
    PairFiles,
    ResidentPairs,
    Statistics,
    batch_count,
    deal_pairs,
    false_negative_rate,
    load_pairs,
    row_statistics,
    shuffle_pairs,
)
from workflow.lib.checkpoints import read_training_state, write_training_state
from workflow.lib.controls import altered
from workflow.lib.dual_encoder import DualEncoder, MomentumCopy
from workflow.lib.errors import UserError
from workflow.lib.losses import QueueLoss, build_loss
from workflow.lib.metrics import summarize
from workflow.lib.optimizer import AdamW, warmup_cosine
from workflow.lib.projections import project_standardized
from workflow.lib.settings import Experiment, TrainingSettings
from workflow.lib.starting_points import closed_form, start_from_closed_form, whiten
from workflow.lib.steps import Fit, train_step

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 30.0
RENEWAL_PAIRS = 8192
# The noise that equals the ridge of a linear map is too much for what training adds to it.
NOISE_OF_RIDGE = 0.5


@dataclass(frozen=True)
class TrainingData:
    """Standardised pairs to train on and to choose by, with the statistics that standardised them.

    closed_forms: their regularised CCA by the width of its maps, kept for the next head that starts from it.
    """

    train: ResidentPairs
    val: ResidentPairs
    image: Statistics
    text: Statistics
    closed_forms: dict[int, Candidate] = field(default_factory=dict)

    def to(self, device: torch.device) -> "TrainingData":
        """Return the same data on a device."""
        return TrainingData(self.train.to(device), self.val.to(device), self.image, self.text)

    def under(self, control: str, seed: int) -> "TrainingData":
        """Return the data with training pairs altered by a control, and no closed form of the true ones."""
        if control == "none":
            return self
        return replace(self, train=altered(self.train, control, seed), closed_forms={})


def load_training_data(train: PairFiles, val: PairFiles, compute: torch.dtype) -> TrainingData:
    """Read the training and validation pairs, standardised by the training rows, for steps in `compute`.

    Rows are held in 16 bits either way: standardised values need little range, so that float16 keeps 11 bits of each.
    """
    image = row_statistics(train.images, train.split.image_rows)
    text = row_statistics(train.texts, train.split.text_rows)
    held = torch.float16 if compute == torch.float32 else compute
    train_pairs, val_pairs = (load_pairs(files, image, text, held, compute) for files in (train, val))
    return TrainingData(train_pairs, val_pairs, image, text)


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
    data = data.under(settings.control, seed)
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
    whiten(model, data.train)
    model.to(device)
    loss = build_loss(experiment.loss, settings.batch_size, settings.same_image == "masked").to(device)
    if not getattr(model.head, "learnable_temp", True):
        loss.freeze_temperature()
    optimizer = AdamW([model, loss], settings.weight_decay)
    steps = settings.num_epochs * _steps_of_epoch(data.train, settings)
    learning_rate = warmup_cosine(settings.learning_rate, settings.warmup_steps, steps)
    return Fit(
        model,
        loss,
        _momentum_copy(model, loss),
        _average(model, settings, steps),
        _augmentation(model, data, settings),
        optimizer,
        learning_rate,
    )


def _augmentation(model: DualEncoder, data: TrainingData, settings: TrainingSettings) -> Augmentation:
    """Return what steps do to their inputs; automatic noise follows the ridges that validation chose for the CCA."""
    noise = settings.noise, settings.noise
    if settings.noise == "auto":
        chosen = closed_form(model, data.train, data.val, data.closed_forms).chosen
        ridges = chosen["image_regularizer"], chosen["text_regularizer"]
        noise = tuple(NOISE_OF_RIDGE * ridge**0.25 for ridge in ridges)
    return Augmentation(settings.mixup, *noise, settings.input_dropout)


def _average(model: DualEncoder, settings: TrainingSettings, steps: int) -> WeightAverage | None:
    """Return the average that training keeps of its weights over so many steps, if it keeps one."""
    if settings.weight_average == "none":
        return None
    kept = exponential(settings.average_decay) if settings.weight_average == "ema" else uniform(steps // 2)
    return WeightAverage(model, kept)


def _momentum_copy(model: DualEncoder, loss: nn.Module) -> MomentumCopy | None:
    """Return a momentum copy if the loss needs one; the loss's own momentum goes before the head's and the default."""
    if not isinstance(loss, QueueLoss):
        return None
    choices = (loss.momentum, getattr(model.head, "momentum", None), loss.default_momentum)
    return MomentumCopy(model, next(value for value in choices if value is not None)).eval()


def train_epoch(state: Fit, data: TrainingData, settings: TrainingSettings, seed: int) -> dict[str, Any]:
    """Take one epoch's steps and return its record."""
    generator = np.random.default_rng([seed, state.epoch])
    batches = _epoch_batches(data.train, settings, generator)
    pairs_of_epoch = _uploaded(np.concatenate(batches), data.train.images.device).split([len(b) for b in batches])
    total = torch.zeros((), device=data.train.images.device)
    learning_rate = state.learning_rate(state.step)
    state.model.train()
    began = time.perf_counter()
    shares = state.augmentation.shares(len(batches), generator)
    shown = tqdm(pairs_of_epoch, f"epoch {state.epoch + 1}", leave=False, disable=None, unit="batch")
    for step, pairs in enumerate(shown):
        if len(pairs) > 1:
            state.loss.start_step(state.epoch + step / len(batches))
            total += len(pairs) * train_step(state, data.train.batch(pairs), shares[step], settings)
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
        "false_negative_rate": _false_negative_rate(state, data.train, batches, settings),
        "pairs_per_second": len(data.train) / (time.perf_counter() - began),
    }


def _false_negative_rate(
    state: Fit, train: ResidentPairs, batches: list[np.ndarray], settings: TrainingSettings
) -> float:
    """Return the share of an epoch's pairs that a pair of their own image served as a negative."""
    if settings.same_image != "negative" or isinstance(state.loss, QueueLoss):
        return 0.0
    return false_negative_rate(train.text_image.cpu().numpy(), batches)


def _steps_of_epoch(train: ResidentPairs, settings: TrainingSettings) -> int:
    if settings.same_image == "apart":
        return batch_count(train.text_image.cpu().numpy(), settings.batch_size)
    return -(-len(train) // settings.batch_size)


def _epoch_batches(
    train: ResidentPairs, settings: TrainingSettings, generator: np.random.Generator
) -> list[np.ndarray]:
    """Return the pairs of each batch of an epoch, by what `same_image` says of captions of one image."""
    divide = deal_pairs if settings.same_image == "apart" else shuffle_pairs
    return list(divide(train.text_image.cpu().numpy(), settings.batch_size, generator))


def _uploaded(pairs: np.ndarray, device: torch.device) -> Tensor:
    """Return an epoch's pairs (M,) on the device, in one copy that the GPU need not wait for."""
    indices = torch.from_numpy(pairs)
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)


def _validate(
    state: Fit,
    data: TrainingData,
    settings: TrainingSettings,
    record: dict[str, Any],
    on_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Complete an epoch's record with validation metrics, keep the weights if they are the best, and pass it on."""
    if state.average and state.epoch:
        renew_batch_norm(state.average.model, _renewal_batches(data.train, settings.batch_size))
    summary = summarize(project_standardized(state.kept_model, data.val).ranks())
    value = monitored(summary, settings.monitor)
    record["val"] = summary
    record["loss_terms"] = {name: term.item() for name, term in state.loss.terms().items()}
    if value > state.best_value:
        state.best_epoch, state.best_value = state.epoch, value
        state.best_state = {name: tensor.detach().clone() for name, tensor in state.kept_model.state_dict().items()}
    speed = record.pop("pairs_per_second", None)
    state.history.append(record)
    _log(record, settings, best=state.best_epoch == state.epoch, speed=speed, pairs=len(data.train))
    on_epoch(record)


def _renewal_batches(train: ResidentPairs, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and texts of batches spread over the training pairs, enough for statistics of batch norms."""
    chosen = torch.linspace(0, len(train) - 1, min(len(train), RENEWAL_PAIRS)).long().to(train.images.device)
    for pairs in chosen.split(batch_size):
        if len(pairs) > 1:
            images, texts, _ = train.batch(pairs)
            yield images.float(), texts.float()


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
