"""The fit loop: steps, schedule, validation after every epoch, early stopping, resuming."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from frozenalign.closed_forms.canonical_maps import CanonicalMaps
from frozenalign.closed_forms.registry import Candidate
from frozenalign.configuration.experiments import Experiment, TrainingSettings
from frozenalign.data.pairs import ResidentPairs
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.projections import project_standardized
from frozenalign.evaluation.ranks import all_finite
from frozenalign.losses.queue import QueueLoss
from frozenalign.losses.registry import build_loss
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.signals import held_back
from frozenalign.training.augmentation import Augmentation
from frozenalign.training.averaging import MomentumCopy, WeightAverage, exponential, renew_batch_norm, uniform
from frozenalign.training.checkpoints import Checkpoint
from frozenalign.training.data import TrainingData
from frozenalign.training.divergence import refuse_broken_weights
from frozenalign.training.epochs import end_epoch, steps_of_epoch, train_epoch
from frozenalign.training.optimizer import AdamW, warmup_cosine
from frozenalign.training.starts import fit_start, start_from, whiten
from frozenalign.training.steps import Fit

logger = logging.getLogger(__name__)
RENEWAL_PAIRS = 8192
# The noise that equals the ridge of a linear map is too much for what training adds to it.
NOISE_OF_RIDGE = 0.5


def fit(
    experiment: Experiment,
    data: TrainingData,
    seed: int,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    checkpoint: Checkpoint | None = None,
    canonical: CanonicalMaps | None = None,
) -> Fit:
    """Train a head and return it with its best weights loaded.

    canonical: the CCA of the pairs, fitted here where a head starts from one and none is given, and for a control.
    data lies on the device that computes. on_epoch sees every epoch's record and may raise to stop. With a checkpoint,
    training goes on from what it holds, and an interruption writes it: the KeyboardInterrupt says where things stand.
    """
    settings = experiment.training
    if settings.control != "none":
        data, canonical = data.under(settings.control, seed), None
    state = start(experiment, data, seed, canonical)
    if checkpoint and checkpoint.read_into(state):
        logger.info("going on in epoch %d after step %d, from %s", state.epoch + 1, state.step, checkpoint.path)
    try:
        _train(state, data, settings, seed, on_epoch, checkpoint)
    except KeyboardInterrupt as interruption:
        if checkpoint:
            raise _kept(checkpoint, state, interruption) from interruption
        raise
    state.model.load_state_dict(state.best_state)
    if checkpoint:
        checkpoint.remove()
    return state


def _train(
    state: Fit,
    data: TrainingData,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[dict[str, Any]], None],
    checkpoint: Checkpoint | None,
) -> None:
    """Validate the start, then train and validate epochs until the last, or until patience ends."""
    between_steps = (lambda: checkpoint.write_if_due(state)) if checkpoint else (lambda: None)
    if not state.history:
        _take_in(state, _validated(state, data, settings, {"epoch": 0}), settings, len(data.train), on_epoch)
    while state.epoch < settings.num_epochs and state.epoch - state.best_epoch < settings.patience:
        record = _validated(state, data, settings, train_epoch(state, data.train, settings, seed, between_steps))
        _take_in(state, record, settings, len(data.train), on_epoch)
        between_steps()


def _kept(checkpoint: Checkpoint, state: Fit, interruption: KeyboardInterrupt) -> KeyboardInterrupt:
    """Write the state of an interrupted training and return the interruption with what to say of it."""
    # A second signal that arrives in the writing is raised after it, and says nothing new.
    with contextlib.suppress(KeyboardInterrupt):
        checkpoint.write(state)
    return type(interruption)(
        f"in epoch {state.epoch + 1} after step {state.step}, {len(state.history)} epochs validated; "
        f"the state is in {checkpoint.path}: run the same command to go on"
    )


def start(experiment: Experiment, data: TrainingData, seed: int, canonical: CanonicalMaps | None = None) -> Fit:
    """Return a training before its first step; data lies on the device that computes. canonical: as for `fit`."""
    torch.manual_seed(seed)
    settings, device = experiment.training, data.train.images.device
    model = DualEncoder(experiment.model, data.train.images.shape[1], data.train.texts.shape[1])
    data.image.fill(model.image_statistics)
    data.text.fill(model.text_statistics)
    maps = _canonical_maps(experiment, data, canonical)
    if maps:
        start_from(model, maps.pair)
    whiten(model, data.train)
    model.to(device)
    loss = build_loss(experiment.loss, settings.batch_size, settings.same_image == "masked").to(device)
    if not model.traits.learnable_temp:
        loss.freeze_temperature()
    optimizer = AdamW([model, loss], settings.weight_decay)
    steps = settings.num_epochs * steps_of_epoch(data.train, settings)
    learning_rate = warmup_cosine(settings.learning_rate, settings.warmup_steps, steps)
    return Fit(
        model,
        loss,
        _momentum_copy(model, loss),
        _average(model, settings, steps),
        _augmentation(settings, maps),
        optimizer,
        learning_rate,
        loss_sum=torch.zeros((), device=device),
    )


def _canonical_maps(experiment: Experiment, data: TrainingData, canonical: CanonicalMaps | None) -> Candidate | None:
    """Return the CCA for the width of an experiment's output, None where nothing of it starts from one."""
    if not experiment.starts_from_cca:
        return None
    output_dim = experiment.model["output_dim"]
    return (canonical or fit_start(data, [output_dim])).of_width(output_dim)


def _augmentation(settings: TrainingSettings, maps: Candidate | None) -> Augmentation:
    """Return what steps do to their inputs; automatic noise follows the ridges that validation chose for the CCA."""
    noise = settings.noise, settings.noise
    if settings.noise == "auto":
        ridges = maps.chosen["image_regularizer"], maps.chosen["text_regularizer"]
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
    choices = (loss.momentum, model.traits.momentum, loss.default_momentum)
    return MomentumCopy(model, next(value for value in choices if value is not None)).eval()


def _validated(state: Fit, data: TrainingData, settings: TrainingSettings, record: dict[str, Any]) -> dict[str, Any]:
    """Return an epoch's record with its validation metrics; this changes nothing, and can be done again."""
    if state.average and state.step:
        renew_batch_norm(state.average.model, _renewal_batches(data.train, settings.batch_size))
    projections = project_standardized(state.kept_model, data.val)
    if not (all_finite(projections.images) and all_finite(projections.texts)):
        refuse_broken_weights(state)
    terms = {name: term.item() for name, term in state.loss.terms().items()}
    return record | {"val": summarize(projections.ranks()), "loss_terms": terms}


def _take_in(
    state: Fit,
    record: dict[str, Any],
    settings: TrainingSettings,
    pairs: int,
    on_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Close an epoch with its record, keep the weights if they are the best so far, and pass the record on."""
    speed = record.pop("pairs_per_second", None)
    with held_back():
        if record["epoch"]:
            end_epoch(state)
        value = monitored(record["val"], settings.monitor)
        if value > state.best_value:
            state.best_epoch, state.best_value = state.epoch, value
            state.best_state = {name: tensor.detach().clone() for name, tensor in state.kept_model.state_dict().items()}
        state.history.append(record)
    _log(record, settings, best=state.best_epoch == state.epoch, speed=speed, pairs=pairs)
    on_epoch(record)


def choice_warnings(history: Sequence[dict[str, Any]], monitor: str) -> list[str]:
    """Return a warning if every epoch has the same validation value, so that none was really chosen."""
    values = {monitored(record["val"], monitor) for record in history}
    if len(history) < 2 or len(values) > 1:
        return []
    return [f"validation {monitor} is {values.pop():.1f} in every epoch, so that none was chosen: give val more images"]


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
