"""The fit loop: steps, schedule, validation after every epoch, early stopping, resuming."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from frozenalign.closed_forms.canonical_maps import CanonicalMaps
from frozenalign.closed_forms.registry import Candidate
from frozenalign.configuration.experiments import Experiment, TrainingSettings
from frozenalign.data.controls import altered
from frozenalign.data.pairs import TrainingPairs
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.projections import project_standardized
from frozenalign.evaluation.ranks import all_finite
from frozenalign.losses.queue import QueueLoss
from frozenalign.losses.registry import ContrastiveLoss, build_loss
from frozenalign.models.batch_norm import share_batch_norms
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.memory import keep_freed_memory
from frozenalign.system.processes import ALONE, Processes
from frozenalign.system.signals import held_back
from frozenalign.training.augmentation import Augmentation
from frozenalign.training.averaging import MomentumCopy, WeightAverage, exponential, renew_batch_norm, uniform
from frozenalign.training.calibration import calibrate
from frozenalign.training.checkpoints import Checkpoint, take_state_of_first
from frozenalign.training.data import TrainingData
from frozenalign.training.divergence import refuse_broken_weights
from frozenalign.training.epochs import end_epoch, steps_of_epoch, train_epoch
from frozenalign.training.optimizer import AdamW, warmup_cosine
from frozenalign.training.starts import fit_start, place_prototypes, start_from, whiten
from frozenalign.training.steps import Fit

logger = logging.getLogger(__name__)
RENEWAL_PAIRS = 8192
# Noise that is equivalent to the ridge of a linear map is too much for a head: it gets this share.
NOISE_OF_RIDGE = 0.5


def fit(
    experiment: Experiment,
    data: TrainingData,
    seed: int,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    checkpoint: Checkpoint | None = None,
    canonical: CanonicalMaps | None = None,
    processes: Processes = ALONE,
) -> Fit:
    """Train a head until the last epoch, or until patience ends, and return it with its best weights loaded.

    data: on the device that computes. on_epoch: gets the record of every epoch and may raise to stop. checkpoint: the
    file that training goes on from and that an interruption writes; the KeyboardInterrupt then has a message about the
    progress. canonical: the CCA of the pairs that a head may start from, and the axes that whiten them; without it, and
    for a control, they are found here. processes: those that call this function together; the first one alone
    validates, has the checkpoint and is interrupted.
    """
    settings = experiment.training
    if settings.control != "none":
        data, canonical = replace(data, train=altered(data.train, settings.control, seed)), None
    state = start(experiment, data, seed, canonical, processes)
    if checkpoint and checkpoint.read_into(state):
        logger.info("going on in epoch %d after step %d, from %s", state.epoch + 1, state.step, checkpoint.path)
    take_state_of_first(state)
    between_steps = (lambda: checkpoint.write_if_due(state)) if checkpoint else (lambda: None)
    try:
        if not state.history:
            calibrated = {"calibrated": state.calibration} if state.calibration else {}
            _close(state, data, settings, {"epoch": 0, **calibrated}, on_epoch)
        while state.epoch < settings.num_epochs and state.epoch - state.gain_epoch < settings.patience:
            _close(state, data, settings, train_epoch(state, data.train, settings, seed, between_steps), on_epoch)
            between_steps()
    except KeyboardInterrupt as interruption:
        if checkpoint:
            raise _kept(checkpoint, state, interruption) from interruption
        raise
    finally:
        state.device_steps.clear()
    state.model.load_state_dict(state.best_state)
    if checkpoint:
        checkpoint.remove()
    return state


def _kept(checkpoint: Checkpoint, state: Fit, interruption: KeyboardInterrupt) -> KeyboardInterrupt:
    """Write the state of an interrupted training and return the interruption with a message about the progress."""
    # A second signal during the writing is raised after it, and adds nothing.
    with contextlib.suppress(KeyboardInterrupt):
        checkpoint.write(state)
    return type(interruption)(
        f"in epoch {state.epoch + 1} after step {state.step}, {len(state.history)} epochs validated; "
        f"the state is in {checkpoint.path}: run the same command to go on"
    )


def start(
    experiment: Experiment,
    data: TrainingData,
    seed: int,
    canonical: CanonicalMaps | None = None,
    processes: Processes = ALONE,
) -> Fit:
    """Return a training before its first step. data, canonical, processes: as for `fit`."""
    keep_freed_memory()
    torch.manual_seed(seed)
    settings = experiment.training
    model, maps = _model(experiment, data, canonical)
    augmentation = _augmentation(settings, maps)
    loss, calibration = _loss(experiment, model, data, augmentation, processes)
    optimizer = AdamW([model, loss], settings.weight_decay)
    steps = settings.num_epochs * steps_of_epoch(data.train, settings)
    momentum_copy, average = _momentum_copy(model, loss), _average(model, settings, steps)
    if processes.count > 1:
        # After the copies, which one process alone evaluates.
        share_batch_norms(model, processes)
    return Fit(
        model,
        loss,
        momentum_copy,
        average,
        augmentation,
        optimizer,
        warmup_cosine(settings.learning_rate, settings.warmup_steps, steps),
        loss_sum=torch.zeros((), device=data.train.device),
        calibration=calibration,
        processes=processes,
    )


def _model(
    experiment: Experiment, data: TrainingData, canonical: CanonicalMaps | None
) -> tuple[DualEncoder, Candidate | None]:
    """Return the model at its start, and the maps of the CCA where it or its noise is derived from them."""
    model, maps = DualEncoder(experiment.model, *data.train.widths), None
    data.image.fill(model.image_statistics)
    data.text.fill(model.text_statistics)
    if experiment.starts_from_cca:
        output_dim = experiment.model["output_dim"]
        maps = (canonical or fit_start(data, [output_dim])).of_width(output_dim)
        start_from(model, maps.pair)
    whiten(model, data, canonical and canonical.axes)
    model.to(data.train.device)
    place_prototypes(model, data.train)
    return model, maps


def _loss(
    experiment: Experiment, model: DualEncoder, data: TrainingData, augmentation: Augmentation, processes: Processes
) -> tuple[ContrastiveLoss, dict[str, Any]]:
    """Return the loss with its scalars at their start, and what calibration has found, empty without automatic ones."""
    settings = experiment.training
    loss = build_loss(experiment.loss, settings.batch_size, settings.same_image == "masked").to(data.train.device)
    loss.processes = processes
    calibration: dict[str, Any] = {}
    if loss.fitted:
        batch = len(data.train) / steps_of_epoch(data.train, settings)
        calibration = processes.from_first(lambda: calibrate(model, loss, data.val, augmentation, batch))
        loss.set_scalars({name: value for name, value in calibration.items() if name in loss.fitted})
    if not model.traits.learnable_temp:
        loss.freeze_temperature()
    return loss, calibration


def _augmentation(settings: TrainingSettings, maps: Candidate | None) -> Augmentation:
    """Return the augmentation; automatic noise follows the ridges that validation chose for the CCA."""
    noise = settings.noise, settings.noise
    if settings.noise == "auto":
        ridges = maps.chosen["image_regularizer"], maps.chosen["text_regularizer"]
        noise = tuple(NOISE_OF_RIDGE * ridge**0.25 for ridge in ridges)
    return Augmentation(settings.mixup, *noise, settings.input_dropout)


def _average(model: DualEncoder, settings: TrainingSettings, steps: int) -> WeightAverage | None:
    """Return the average of the weights over the steps of a training, if it has one."""
    if settings.weight_average == "none":
        return None
    if settings.weight_average == "ema":
        return WeightAverage(model, exponential(settings.average_decay))
    return WeightAverage(model, uniform(steps // 2), steps // 2)


def _momentum_copy(model: DualEncoder, loss: nn.Module) -> MomentumCopy | None:
    """Return a momentum copy if the loss needs one, with the momentum of the loss, else of the head, else default."""
    if not isinstance(loss, QueueLoss):
        return None
    choices = (loss.momentum, model.traits.momentum, loss.default_momentum)
    return MomentumCopy(model, next(value for value in choices if value is not None)).eval()


def _validation(state: Fit, data: TrainingData, settings: TrainingSettings) -> dict[str, Any]:
    """Return the validation metrics and learned scalars of an epoch; repeating this gives the same."""
    if state.average and state.step:
        renew_batch_norm(state.average.model, _renewal_batches(data.train, settings.batch_size))
    projections = project_standardized(state.kept_model, data.val)
    if not (all_finite(projections.images) and all_finite(projections.texts)):
        refuse_broken_weights(state)
    terms = {name: term.item() for name, term in state.loss.terms().items()}
    return {"val": summarize(projections.ranks()), "loss_terms": terms}


def _close(
    state: Fit,
    data: TrainingData,
    settings: TrainingSettings,
    record: dict[str, Any],
    on_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Validate an epoch, keep its weights if they are the best so far, add its record to the history and pass it on."""
    record = record | state.processes.from_first(lambda: _validation(state, data, settings))
    speed = record.pop("pairs_per_second", None)
    with held_back():
        if record["epoch"]:
            end_epoch(state)
        value = monitored(record["val"], settings.monitor)
        if record["epoch"] and value > state.gain_value:
            state.gain_epoch, state.gain_value = state.epoch, value
        if value > state.best_value:
            state.best_epoch, state.best_value = state.epoch, value
            state.best_state = {name: tensor.detach().clone() for name, tensor in state.kept_model.state_dict().items()}
        state.history.append(record)
    _log(record, settings, best=state.best_epoch == state.epoch, speed=speed, pairs=len(data.train))
    on_epoch(record)


def average_warnings(trained: Fit) -> list[str]:
    """Return a warning if a training has kept weights from before its average of them began."""
    if trained.average is None or not trained.best_epoch:
        return []
    return trained.average.warnings(trained.best_epoch * trained.step // trained.epoch)


def choice_warnings(history: Sequence[dict[str, Any]], monitor: str) -> list[str]:
    """Return a warning if every epoch has the same validation value, so that none could be chosen."""
    values = {monitored(record["val"], monitor) for record in history}
    if len(history) < 2 or len(values) > 1:
        return []
    return [f"validation {monitor} is {values.pop():.1f} in every epoch, so that none was chosen: give val more images"]


def _renewal_batches(train: TrainingPairs, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and texts of equal batches spread over the training pairs, enough for batch-norm statistics."""
    chosen = torch.linspace(0, len(train) - 1, min(len(train), RENEWAL_PAIRS)).long().to(train.text_image.device)
    # At least two in each, without which a batch norm has no variance.
    for pairs in chosen.tensor_split(max(1, min(-(-len(chosen) // batch_size), len(chosen) // 2))):
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
    shown = [f"epoch {record['epoch']}/{settings.num_epochs}", f"val RSUM {val['RSUM']:.1f}"]
    for direction in ("i2t", "t2i"):
        shown.append(f"{direction} " + "/".join(f"{val[direction][name]:.1f}" for name in ("R@1", "R@5", "R@10")))
    shown += [f"{name} {value:.4g}" for name, value in record["loss_terms"].items()]
    if speed:
        left = (settings.num_epochs - record["epoch"]) * pairs / speed
        shown += [f"loss {record['loss']:.4f}", f"lr {record['learning_rate']:.2e}"]
        shown += [f"{speed:,.0f} pairs/s", f"≤ {left:.0f} s left"]
    logger.info("%s", "  ".join(shown + ["best"] * best))
