"""The fit loop: what is chosen, when it stops, what decays, and that a seed decides all, whatever interrupts."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from frozenalign.data.pairs import ResidentPairs
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.projections import project_files, project_standardized
from frozenalign.losses import structure
from frozenalign.losses.queue import QueueLoss
from frozenalign.losses.registry import LOSSES, build_loss
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.registry import HEADS
from frozenalign.training import epochs
from frozenalign.training import fit as training
from frozenalign.training.data import load_training_data
from frozenalign.training.fit import average_warnings, choice_warnings, fit, monitored, start
from frozenalign.training.optimizer import AdamW, decays, warmup_cosine
from frozenalign.training.starts import fit_start, start_from
from frozenalign.training.steps import Fit, train_step
from tests.small_training import NAMED, SMALL, STATEFUL, assert_same, experiment, raw, rotated_pairs


@pytest.fixture
def always_better(monkeypatch) -> None:
    """Let every epoch be the best so far, so that the weights that come back are those of the last step."""
    values = itertools.count()
    monkeypatch.setattr(training, "monitored", lambda summary, monitor: next(values))


@pytest.fixture
def always_worse(monkeypatch) -> None:
    values = itertools.count(0, -1)
    monkeypatch.setattr(training, "monitored", lambda summary, monitor: next(values))


def test_the_history_begins_before_the_first_step_and_has_one_record_an_epoch(data):
    trained = fit(experiment(), data, seed=0)
    assert [record["epoch"] for record in trained.history] == [0, 1, 2, 3, 4]
    assert set(trained.history[0]) == {"epoch", "val", "loss_terms"}
    for record in trained.history[1:]:
        assert set(record) == {"epoch", "loss", "learning_rate", "false_negative_rate", "val", "loss_terms"}
        assert record["false_negative_rate"] == 0.0
        assert record["loss_terms"]["temperature"] > 0
    json.dumps(trained.history, allow_nan=False)


def test_training_beats_random_weights(data):
    trained = fit(experiment("linear", num_epochs=10), data, seed=0)
    start = trained.history[0]["val"]["RSUM"]
    assert trained.best_value > start + (600 - start) / 2
    losses = [record["loss"] for record in trained.history[1:]]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("values", "patience", "best", "last"),
    [
        ([1, 2, 3, 4, 5], 1, 4, 4),
        ([5, 4, 3, 2, 1], 2, 0, 3),
        ([5, 1, 2, 3, 4], 2, 0, 4),
        ([1, 5, 4, 3, 9], 2, 1, 3),
        ([1, 5, 4, 6, 5], 2, 3, 4),
        ([3, 3, 3, 3, 3], 2, 0, 3),
    ],
    ids=[
        "rising",
        "best before any step",
        "rising below its start",
        "stops before a later peak",
        "patience starts anew",
        "a tie is no gain",
    ],
)
def test_the_best_epoch_is_kept_and_patience_ends_training(values, patience, best, last, data, monkeypatch):
    scripted = iter(values)
    monkeypatch.setattr(training, "monitored", lambda summary, monitor: next(scripted))
    trained = fit(experiment(patience=patience), data, seed=0)
    assert (trained.best_epoch, trained.best_value, trained.epoch) == (best, values[best], last)


@pytest.mark.parametrize("patience", [1, 3])
def test_a_start_that_no_step_improves_is_what_comes_back(patience):
    data = raw(rotated_pairs(30))
    settings = experiment("linear", model={"init": "cca"}, output_dim=6, patience=patience)
    trained = fit(settings, data, seed=0)
    torch.manual_seed(0)
    start = DualEncoder(settings.model, 6, 6)
    start_from(start, fit_start(data).of_width(6).pair)
    assert trained.history[0]["val"]["RSUM"] == trained.best_value == 600.0
    assert trained.best_epoch == 0
    assert trained.epoch > patience
    assert_same(trained.model.state_dict(), start.state_dict())


@pytest.mark.parametrize("monitor", ["RSUM", "i2t R@1", "i2t R@10", "t2i R@1", "t2i R@5"])
def test_the_monitored_metric_chooses_the_epoch(monitor, data):
    trained = fit(experiment(num_epochs=8, patience=8, monitor=monitor, learning_rate=0.03), data, seed=0)
    direction, _, metric = monitor.partition(" ")
    values = [record["val"][direction][metric] if metric else record["val"]["RSUM"] for record in trained.history]
    assert trained.best_value == max(values)
    assert trained.best_epoch == values.index(max(values))


def test_monitor_names_a_direction_and_a_metric():
    summary = {"i2t": {"R@1": 1.0, "R@5": 2.0}, "t2i": {"R@1": 3.0, "R@5": 4.0}, "RSUM": 5.0}
    names = ("i2t R@1", "i2t R@5", "t2i R@1", "t2i R@5", "RSUM")
    assert [monitored(summary, name) for name in names] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("head", ["linear", "align"])
def test_the_weights_that_come_back_score_what_their_epoch_scored(head, data, files):
    """On the rows that training held and, by the statistics in the model, on the raw rows of the files."""
    trained = fit(experiment(head, learning_rate=1.0, num_epochs=6, patience=6), data, seed=1)
    expected = trained.history[trained.best_epoch]["val"]
    assert trained.best_epoch != trained.epoch
    assert summarize(project_standardized(trained.model, data.val).ranks()) == expected
    trained.model.eval()
    assert summarize(project_files(trained.model, files["val"], torch.device("cpu")).ranks()) == expected


def test_every_epoch_is_reported_and_a_report_may_stop_training(data):
    seen = []

    def stop_after_two(record: dict) -> None:
        seen.append(record)
        if record["epoch"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(experiment(), data, seed=0, on_epoch=stop_after_two)
    assert [record["epoch"] for record in seen] == [0, 1, 2]
    assert all(set(record["val"]) == {"i2t", "t2i", "RSUM"} for record in seen)


def undecayed(module: nn.Module) -> set[int]:
    """Biases, norms and scalars, found by what they belong to."""
    norms = [part for part in module.modules() if isinstance(part, nn.LayerNorm | nn.BatchNorm1d)]
    found = {id(value) for norm in norms for value in norm.parameters()}
    return found | {id(value) for name, value in module.named_parameters() if name.endswith("bias") or not value.dim()}


@pytest.mark.parametrize("head", sorted(SMALL))
def test_biases_norms_and_scales_of_a_head_do_not_decay(head):
    model = DualEncoder(experiment(head, {"type": "blip"}).model, 12, 9)
    assert {id(value) for value in model.parameters() if not decays(value)} == undecayed(model)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_temperatures_and_biases_of_a_loss_do_not_decay(name):
    assert not any(decays(value) for value in build_loss({"type": name}, 32).parameters())


def test_one_step_shrinks_matrices_by_the_learning_rate_times_the_decay_and_biases_not_at_all(always_better):
    settings = {"batch_size": 64, "num_epochs": 1, "learning_rate": 0.01}
    data = raw(rotated_pairs(30))
    plain, decayed = (fit(experiment("linear", weight_decay=decay, **settings), data, 0).model for decay in (0.0, 0.5))
    torch.manual_seed(0)
    start = DualEncoder(experiment("linear").model, 6, 6)
    for tower in ("image_tower", "text_tower"):
        first, without, with_decay = (getattr(model, tower) for model in (start, plain, decayed))
        torch.testing.assert_close(with_decay.weight, without.weight - 0.01 * 0.5 * first.weight)
        assert torch.equal(with_decay.bias, without.bias)
        assert not torch.equal(without.bias, first.bias)


@pytest.mark.parametrize(
    ("warmup", "steps", "expected"),
    [
        (0, 4, [1.0, 0.5 + 0.25 * math.sqrt(2), 0.5, 0.5 - 0.25 * math.sqrt(2), 0.0]),
        (1, 10, {0: 0.5, 1: 1.0, 10: 0.0}),
        (3, 103, {0: 0.25, 1: 0.5, 2: 0.75, 3: 1.0, 53: 0.5, 103: 0.0, 200: 0.0}),
        (100, 40, {0: 0.2, 3: 0.8, 4: 1.0, 22: 0.5, 40: 0.0}),
        (100, 5, {0: 1.0, 5: 0.0}),
    ],
    ids=["no warm-up", "one step", "three steps", "at most a tenth of all steps", "too few steps for any"],
)
def test_the_learning_rate_rises_in_a_line_and_falls_as_half_a_cosine(warmup, steps, expected):
    rate = warmup_cosine(1.0, warmup, steps)
    expected = dict(enumerate(expected)) if isinstance(expected, list) else expected
    assert {step: rate(step) for step in expected} == pytest.approx(expected, abs=1e-12)


def test_the_schedule_ends_with_the_last_step_of_the_last_epoch(data):
    trained = fit(experiment(num_epochs=5, patience=5, warmup_steps=0, learning_rate=0.01), data, seed=0)
    rates = [record["learning_rate"] for record in trained.history[1:]]
    assert rates == pytest.approx([0.005 * (1 + math.cos(math.pi * epoch / 5)) for epoch in range(5)])
    assert trained.learning_rate(trained.step) == pytest.approx(0.0, abs=1e-12)


def test_the_warm_up_of_the_settings_is_the_one_that_is_used(data):
    """Forty steps allow for a rise of four; three are asked for."""
    trained = fit(experiment(num_epochs=10, patience=10, warmup_steps=3, learning_rate=0.01), data, seed=0)
    assert trained.history[1]["learning_rate"] == pytest.approx(0.01 / 4)
    assert trained.history[2]["learning_rate"] == pytest.approx(0.005 * (1 + math.cos(math.pi * 1 / 37)))


def test_the_schedule_counts_the_batches_that_an_image_with_many_captions_adds():
    """Five captions of one image need five batches, however many pairs a batch could hold."""
    data = raw(rotated_pairs(8, captions=5))
    trained = fit(experiment(batch_size=512, num_epochs=4, warmup_steps=0, learning_rate=0.01), data, seed=0)
    rates = [record["learning_rate"] for record in trained.history[1:]]
    assert rates == pytest.approx([0.005 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)])


@pytest.mark.parametrize(("head", "loss"), STATEFUL, ids=NAMED)
def test_a_seed_decides_every_weight(head, loss, data, always_better):
    runs = []
    for seed, noise in ((3, 1), (3, 2), (4, 1)):
        torch.manual_seed(noise)
        runs.append(fit(experiment(head, loss, num_epochs=2), data, seed))
    first, again, other = (run.model.state_dict() for run in runs)
    assert runs[0].history == runs[1].history
    assert_same(first, again)
    matrices = [name for name, value in first.items() if name.startswith("image_tower") and value.dim() == 2]
    assert not any(torch.equal(first[name], other[name]) for name in matrices)


def test_a_seed_and_an_epoch_decide_the_batches(data, monkeypatch):
    dealt, deal = [], epochs.deal_pairs

    def recorded(*arguments):
        batches = list(deal(*arguments))
        dealt.append(np.concatenate(batches).tolist())
        return batches

    monkeypatch.setattr(epochs, "deal_pairs", recorded)
    for seed in (0, 0, 1):
        fit(experiment(num_epochs=2), data, seed)
    first, again, other = dealt[:2], dealt[2:4], dealt[4:]
    assert first == again
    assert len({tuple(order) for order in (*first, *other)}) == 4


@pytest.mark.parametrize(("same_image", "rate"), [("apart", 0.0), ("masked", 0.0), ("negative", 1.0)])
def test_the_rate_of_false_negatives_is_logged(same_image, rate, data):
    trained = fit(experiment(same_image=same_image, batch_size=len(data.train), num_epochs=1), data, seed=0)
    assert trained.history[1]["false_negative_rate"] == rate


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_averaged_weights_are_what_is_validated_and_kept(average, data, always_better):
    state = fit(experiment("align", weight_average=average), data, seed=0)
    assert_same(state.model.state_dict(), state.average.model.state_dict())
    plain = fit(experiment("align"), data, seed=0)
    assert not torch.equal(state.model.image_tower[0].weight, plain.model.image_tower[0].weight)


@pytest.mark.parametrize("batch_size", [2, 7, 118])
def test_averaged_batch_norms_have_the_statistics_of_all_pairs_whatever_the_batch_size_leaves_over(
    batch_size, data, always_better
):
    train = data.train
    odd = ResidentPairs(train.images, train.texts[:-1], train.text_image[:-1], train.compute)
    data = dataclasses.replace(data, train=odd)
    settings = experiment("align", weight_average="ema", batch_size=batch_size, num_epochs=1)
    first, norm, *_ = fit(settings, data, seed=0).model.image_tower
    with torch.no_grad():
        entering = first(data.train.batch(torch.arange(len(data.train)))[0].float())
    torch.testing.assert_close(norm.running_mean, entering.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(norm.running_var, entering.var(0), atol=1e-5, rtol=1e-4)


def test_automatic_noise_follows_the_ridges_that_validation_chose(data):
    state = start(experiment(noise="auto"), data, seed=0)
    chosen = fit_start(data, [4]).of_width(4).chosen
    assert state.augmentation.image_noise == 0.5 * chosen["image_regularizer"] ** 0.25
    assert state.augmentation.text_noise == 0.5 * chosen["text_regularizer"] ** 0.25


@pytest.mark.parametrize(
    ("head", "loss", "expected"),
    [
        ("mlp", {"type": "clip"}, None),
        ("mlp", {"type": "queue"}, 0.999),
        ("mlp", {"type": "blip"}, 0.995),
        ("blip", {"type": "queue"}, 0.9),
        ("blip", {"type": "blip", "momentum": 0.5}, 0.5),
        ("mlp", {"type": "blip", "momentum": 0.0}, 0.0),
    ],
    ids=["no queue, no copy", "queue default", "blip default", "the head's", "the loss's first", "zero is a value"],
)
def test_the_momentum_is_the_losses_then_the_heads_then_the_default(head, loss, expected, data):
    sized = loss | ({} if loss["type"] == "clip" else {"queue_size": 40})
    copy = fit(experiment(head, sized, num_epochs=1), data, seed=0).momentum_copy
    assert (copy.momentum if copy else None) == expected


def test_the_momentum_copy_follows_before_every_step(monkeypatch):
    """One step an epoch: the copy averages the start and the weights after each step but the last."""
    after, project = [], training.project_standardized

    def recorded(model, pairs):
        after.append(model.image_tower.weight.detach().double())
        return project(model, pairs)

    monkeypatch.setattr(training, "project_standardized", recorded)
    loss = {"type": "queue", "queue_size": 40, "momentum": 0.5}
    trained = fit(experiment("linear", loss, batch_size=64), raw(rotated_pairs(30)), seed=0)
    expected = after[0]
    for weight in after[:-1]:
        expected = 0.5 * expected + 0.5 * weight
    assert len(after) == 5
    torch.testing.assert_close(trained.momentum_copy.image_tower.weight.double(), expected, atol=1e-6, rtol=0)


def test_a_queue_is_filled_with_the_newest_keys_of_the_momentum_copy(data):
    loss = {"type": "queue", "queue_size": 130, "momentum": 0.0}
    trained = fit(experiment("linear", loss, num_epochs=1, batch_size=120), data, seed=0)
    assert isinstance(trained.loss, QueueLoss)
    filled = trained.loss.queue_index >= 0
    assert filled.sum() == len(data.train) == 120
    assert (torch.bincount(trained.loss.queue_index[filled]) == 3).all()
    torch.testing.assert_close(trained.loss.image_queue.norm(dim=1), torch.ones(130))


def test_the_structure_of_a_batch_is_that_of_its_frozen_embeddings(data, monkeypatch):
    """Noise and mixing change what the towers see; the neighbourhoods that are kept are those without them."""
    compared = []
    plain = structure.structure_loss

    def noted(embeddings: Tensor, projections: Tensor) -> Tensor:
        compared.append(embeddings)
        return plain(embeddings, projections)

    monkeypatch.setattr(structure, "structure_loss", noted)
    settings = experiment("linear", structure=0.5, noise=1.0, mixup=0.5, input_dropout=0.3)
    batch = data.train.batch(torch.arange(0, 60, 3))
    train_step(start(settings, data, seed=0), batch, 0.6, settings.training)
    assert len(compared) == 2
    assert torch.equal(compared[0], batch[0])
    assert torch.equal(compared[1], batch[1])


def test_an_average_that_had_not_begun_with_the_weights_that_were_kept_is_said(data):
    settings = experiment("linear", weight_average="swa", num_epochs=10, patience=10)
    trained = fit(settings, data, seed=0)
    steps = trained.step // trained.epoch
    trained.best_epoch = 10
    assert average_warnings(trained) == []
    trained.best_epoch = 4
    said = f"from step {5 * steps + 1} on but the weights that were kept are those after step {4 * steps}"
    assert said in average_warnings(trained)[0]
    plain = fit(experiment("linear"), data, seed=0)
    assert average_warnings(plain) == []


def test_a_training_that_ends_before_its_average_begins_says_so_and_has_plain_weights(data, monkeypatch):
    def best_after_one_epoch(weight_average: str) -> Fit:
        values = iter((1.0, 2.0, 0.0, 0.0))
        monkeypatch.setattr(training, "monitored", lambda summary, monitor: next(values))
        settings = experiment("linear", weight_average=weight_average, num_epochs=40, patience=1)
        return fit(settings, data, seed=0)

    averaged, plain = map(best_after_one_epoch, ("swa", "none"))
    assert (averaged.best_epoch, averaged.epoch) == (1, 2)
    assert "the head has plain weights" in average_warnings(averaged)[0]
    assert_same(averaged.model.state_dict(), plain.model.state_dict())


@pytest.mark.parametrize(("learnable", "moves"), [(True, True), (False, False)])
def test_a_temperature_moves_only_where_the_head_lets_it(learnable, moves, data):
    trained = fit(experiment("clip", model={"learnable_temp": learnable}), data, seed=0)
    temperatures = {record["loss_terms"]["temperature"] for record in trained.history}
    assert (len(temperatures) > 1) is moves
    assert trained.history[0]["loss_terms"]["temperature"] == pytest.approx(0.07)


@pytest.mark.parametrize(("head", "loss", "low", "high"), [("mlp", "clip", 0.01, 1.0), ("blip", "blip", 0.001, 0.5)])
def test_a_temperature_is_brought_back_into_its_bounds_after_a_step(head, loss, low, high, data):
    for start_value, bound in ((low / 2, low), (2 * high, high)):
        state = start(experiment(head, {"type": loss}), data, seed=0)
        state.loss.set_scalars({"temperature": start_value})
        state.loss.after_step()
        assert state.loss.scalars()["temperature"] == pytest.approx(bound)


def test_the_settings_bound_reaches_every_step(data, monkeypatch):
    seen = []
    step = AdamW.step

    def recorded(self, rate: float, clip: float, skip: Tensor) -> None:
        seen.append(clip)
        step(self, rate, clip, skip)

    monkeypatch.setattr(AdamW, "step", recorded)
    fit(experiment(num_epochs=1, gradient_clip=0.25), data, seed=0)
    assert seen == [0.25] * 4


def test_a_batch_of_one_pair_is_left_out():
    """Three pairs in batches of two: the pair that is left alone has nothing to be compared with."""
    trained = fit(experiment("align", batch_size=2, num_epochs=2), raw(rotated_pairs(3)), seed=0)
    assert trained.step == 2


def test_bfloat16_rows_train_float32_weights(files):
    data = load_training_data(files["train"], files["val"], torch.bfloat16)
    trained = fit(experiment("attention", num_epochs=2), data, seed=0)
    assert data.train.texts.dtype == torch.bfloat16
    assert {value.dtype for value in trained.model.parameters()} == {torch.float32}
    assert all(math.isfinite(record["loss"]) for record in trained.history[1:])


def test_training_leaves_its_data_as_it_was(data):
    before = [value.clone() for value in (data.train.images, data.train.texts, data.val.images, data.val.texts)]
    fit(experiment("linear"), data, seed=0)
    for old, now in zip(before, (data.train.images, data.train.texts, data.val.images, data.val.texts), strict=True):
        assert torch.equal(old, now)


def test_validation_pairs_take_no_part_in_the_steps(data):
    other = dataclasses.replace(data, val=data.train)
    mine, others = (fit(experiment(), pairs, seed=0).history for pairs in (data, other))
    assert [record["loss"] for record in mine[1:]] == [record["loss"] for record in others[1:]]
    assert mine[0]["val"] != others[0]["val"]


def test_every_registered_head_is_tried_here():
    assert set(SMALL) == set(HEADS)


def test_a_validation_set_that_tells_no_epochs_apart_is_said():
    def history(*values: float) -> list[dict]:
        return [{"val": {"RSUM": value, "t2i": {"R@1": 50.0}}} for value in values]

    assert choice_warnings(history(600.0, 600.0, 600.0), "RSUM")[0].startswith(
        "validation RSUM is 600.0 in every epoch"
    )
    assert choice_warnings(history(1.0, 2.0), "t2i R@1")[0].startswith("validation t2i R@1 is 50.0 in every epoch")
    assert choice_warnings(history(599.0, 600.0), "RSUM") == choice_warnings(history(600.0), "RSUM") == []
