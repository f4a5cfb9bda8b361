"""The steps of one epoch: their batches, their record, and the points at which a signal may interrupt."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from frozenalign.configuration.experiments import TrainingSettings
from frozenalign.data.batches import batch_count, deal_pairs, false_negative_rate, shuffle_pairs
from frozenalign.data.pairs import TrainingPairs
from frozenalign.losses.queue import QueueLoss
from frozenalign.system.signals import held_back
from frozenalign.training.device_steps import take_step
from frozenalign.training.divergence import refuse_divergence
from frozenalign.training.steps import Fit

# Batches smaller than this share of what `batch_size` allows get a warning.
SMALLER = 0.9


def steps_of_epoch(train: TrainingPairs, settings: TrainingSettings) -> int:
    """Return the number of batches of an epoch."""
    if settings.same_image == "apart":
        return batch_count(train.text_image.cpu().numpy(), settings.batch_size)
    return -(-len(train) // settings.batch_size)


def batch_warnings(train: TrainingPairs, settings: TrainingSettings) -> list[str]:
    """Return a warning if one image has so many captions that batches are smaller than `batch_size`."""
    pairs, fullest = len(train), int(train.text_image.bincount().max())
    steps, without = steps_of_epoch(train, settings), -(-pairs // settings.batch_size)
    if steps * SMALLER <= without:
        return []
    held = pairs / steps
    return [
        f"training.batch_size asks for {settings.batch_size} pairs but batches hold {held:.4g}: an image has {fullest} "
        f"of the {pairs} captions, and `same_image: apart` gives each its own batch; set training.same_image: masked "
        "to have full batches, or leave captions of that image out"
    ]


@dataclass(frozen=True)
class EpochPlan:
    """What the steps of an epoch take: pairs of each batch, from groups that are loaded together, and λ of each step.

    owners: (m,) the image of each pair, the same for all epochs.
    """

    epoch: int
    owners: np.ndarray
    groups: list[np.ndarray]
    batches: list[np.ndarray]
    mixed_shares: list[float]


def plan_epoch(
    state: Fit, train: TrainingPairs, settings: TrainingSettings, seed: int, epoch: int, owners: np.ndarray
) -> EpochPlan:
    """Return the plan of an epoch, which depends on the seed and its number alone."""
    generator = np.random.default_rng([seed, epoch])
    divide = deal_pairs if settings.same_image == "apart" else shuffle_pairs
    groups = train.groups(settings.batch_size, generator)
    batches = [group[at] for group in groups for at in divide(owners[group], settings.batch_size, generator)]
    return EpochPlan(epoch, owners, groups, batches, state.augmentation.shares(len(batches), generator))


def train_epoch(
    state: Fit,
    train: TrainingPairs,
    settings: TrainingSettings,
    seed: int,
    between_steps: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Take the steps of an epoch that are not yet done, and return its record; `end_epoch` closes it.

    between_steps is called after every step, and signals take effect there, never within a step.
    """
    plan = state.plan if state.plan and state.plan.epoch == state.epoch else None
    plan = plan or plan_epoch(state, train, settings, seed, state.epoch, train.text_image.cpu().numpy())
    batches = plan.batches
    pairs_of_epoch = _uploaded(np.concatenate(batches), train.text_image.device).split(
        [len(pairs) for pairs in batches]
    )
    train.load_ahead(plan.groups)
    state.model.train()
    began, done_before = time.perf_counter(), state.batch
    left = range(state.batch, len(batches))
    for number in tqdm(left, f"epoch {state.epoch + 1}", leave=False, disable=None, unit="batch"):
        with held_back():
            if len(pairs_of_epoch[number]) > 1:
                state.loss.start_step(state.epoch + number / len(batches))
                take_step(state, train, pairs_of_epoch[number], plan.mixed_shares[number], settings)
            state.batch += 1
        if train.device.type == "cpu":
            refuse_divergence(state, train, pairs_of_epoch)
        between_steps()
    if train.device.type != "cpu" and state.epoch + 1 < settings.num_epochs:
        # A GPU still computes the steps that were launched; the next line waits for it.
        state.plan = plan_epoch(state, train, settings, seed, state.epoch + 1, plan.owners)
    refuse_divergence(state, train, pairs_of_epoch)
    has_false_negatives = settings.same_image == "negative" and not isinstance(state.loss, QueueLoss)
    return {
        "epoch": state.epoch + 1,
        "loss": state.loss_sum.item() / len(train),
        "learning_rate": state.learning_rate(state.first_step),
        "false_negative_rate": false_negative_rate(plan.owners, batches) if has_false_negatives else 0.0,
        "pairs_per_second": sum(map(len, batches[done_before:])) / (time.perf_counter() - began),
    }


def end_epoch(state: Fit) -> None:
    """Count an epoch as finished."""
    state.epoch += 1
    state.batch, state.first_step = 0, state.step
    state.loss_sum.zero_()


def _uploaded(pairs: np.ndarray, device: torch.device) -> Tensor:
    """Return an epoch's pairs (M,) on the device, copied at once and without blocking a GPU."""
    indices = torch.from_numpy(pairs)
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)
