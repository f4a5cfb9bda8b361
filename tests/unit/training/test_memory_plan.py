"""Training rows are held in memory where they fit, else streamed; the weights are those of the same order in memory."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch

from frozenalign.configuration.experiments import Experiment
from frozenalign.configuration.held_weights import COPIES_OF_BUFFERS
from frozenalign.configuration.search_space import largest_experiments, propose
from frozenalign.configuration.studies import load_study
from frozenalign.data.batches import BlockOrder
from frozenalign.data.pairs import ResidentPairs
from frozenalign.data.streamed_pairs import StreamedPairs
from frozenalign.system.errors import UserError
from frozenalign.training import memory_plan
from frozenalign.training.checkpoints import Checkpoint
from frozenalign.training.data import TrainingData, load_training_data
from frozenalign.training.fit import fit, start
from frozenalign.training.memory_plan import Demand, choose_order, load_within, most_images
from frozenalign.training.steps import train_step
from tests.held_memory import most_held
from tests.small_training import NAMED, REGULARISED, STATEFUL, assert_same, experiment

CPU = torch.device("cpu")
SHIPPED = Path(__file__).parents[3] / "config" / "tuning"
ORDER = BlockOrder(block=2, together=48)


class InBlocks(ResidentPairs):
    """Pairs in memory, in the order in which they would be streamed."""

    def groups(self, batch_size, generator):
        return ORDER.groups(len(self), batch_size, generator)


@pytest.fixture
def demand(files) -> Demand:
    """A training on 120 pairs in batches of 4, of which memory would hold 40 images (12) and 120 texts (9)."""
    return replace(Demand.of(experiment(batch_size=4), files["train"], files["val"], torch.float32), steps=1000)


@pytest.fixture
def left(demand, monkeypatch):
    """Return a function that leaves so many bytes for training rows, which no other process holds."""

    monkeypatch.setattr(memory_plan, "bytes_to_hold", lambda files, dtype: files.values * dtype.itemsize)

    def leave(rows: int) -> None:
        monkeypatch.setattr(memory_plan, "SHARE_OF_REST", 1.0)
        monkeypatch.setattr(memory_plan, "memory_left", lambda: rows + demand.beside)

    return leave


@pytest.fixture(scope="module")
def streamed(files) -> TrainingData:
    return load_training_data(files["train"], files["val"], torch.float32, ORDER)


@pytest.fixture(scope="module")
def in_blocks(data) -> TrainingData:
    return replace(data, train=InBlocks(**vars(data.train)))


def test_rows_that_fit_are_held_in_memory(demand, left):
    assert demand.resident == 2 * (40 * 12 + 120 * 9)
    left(demand.resident)
    assert choose_order(demand, None) is None


def test_fp32_asked_for_by_name_holds_rows_in_32_bits_and_takes_the_memory_for_it(demand, left, files):
    asked = replace(demand, precision="fp32")
    assert asked.resident == 2 * demand.resident
    left(demand.resident)
    assert choose_order(replace(demand, steps=0), None) is None
    order = choose_order(replace(asked, steps=0), None)
    assert order is not None
    held = load_within(asked, None, CPU)
    first = int(files["train"].split.text_rows[0])
    expected = (files["train"].texts.read(first, first + 1) - held.text.mean) / held.text.scale
    first_rows = held.train.texts[: len(expected)]
    assert held.train.texts.dtype == held.train.images.dtype == held.val.texts.dtype == torch.float32
    assert torch.equal(first_rows, expected)
    streamed = load_within(asked, ORDER, CPU)
    assert torch.equal(streamed.train.batch(torch.arange(9))[1], held.train.texts[:9])


def test_rows_that_do_not_fit_are_streamed_as_many_together_as_fit(demand, left, caplog):
    caplog.set_level("INFO")
    orders = list(demand.orders())
    assert [order.together for order in orders] == [64, 32, 16]
    left(demand.resident - 1)
    order = choose_order(demand, None)
    assert order == next(each for each in orders if demand.streamed(each) < demand.resident)
    assert f"in groups of up to {order.together} pairs" in caplog.text


def test_the_setting_limits_the_rows_whatever_is_left(demand, left):
    left(10**9)
    assert choose_order(demand, demand.resident) is None
    assert choose_order(demand, demand.resident - 1) is not None


def test_too_little_memory_is_one_sentence(demand, left):
    left(100)
    with pytest.raises(UserError, match=r"training takes .* at the least, where .* are left: give the job more, lower"):
        choose_order(demand, None)
    left(10**9)
    with pytest.raises(UserError, match=r"and `memory` allows .* of rows"):
        choose_order(demand, 100)
    with pytest.raises(UserError, match=r"in 3 processes, where .*: lower training.devices or training.batch_size"):
        choose_order(replace(demand, processes=3), 100)
    with pytest.raises(UserError, match=r"in 3 processes, where .*: lower `n_jobs`"):
        choose_order(replace(demand, processes=3, handed_over=True), 100)


def test_an_interrupted_training_keeps_its_way_if_that_fits(demand, left):
    left(10**9)
    kept = list(demand.orders())[-1]
    assert choose_order(demand, None, lambda order: order == kept) == kept
    assert choose_order(demand, None, lambda order: False) is None


def test_processes_of_a_training_hold_its_rows_once_and_each_its_own_steps(demand, left):
    three = replace(demand, processes=3)
    further = 2 * demand.steps
    left(demand.resident + further)
    assert choose_order(three, demand.resident) is None
    left(demand.resident + further - 1)
    with pytest.raises(UserError, match="in 3 processes"):
        choose_order(three, None)


def test_where_memory_cannot_be_shared_each_process_of_a_training_holds_the_rows(demand, left, monkeypatch):
    monkeypatch.setattr(memory_plan, "can_share", lambda: False)
    three = replace(demand, processes=3)
    further = 2 * demand.steps
    left(3 * demand.resident + further)
    assert choose_order(three, None) is None
    left(3 * demand.resident + further - 1)
    assert choose_order(three, None) is not None


def test_rows_are_handed_over_only_where_the_machine_has_the_shared_memory(demand, left, monkeypatch):
    left(10**9)
    two = replace(demand, processes=2, handed_over=True)
    assert choose_order(two, None) is None
    monkeypatch.setattr(memory_plan, "_shared_memory", lambda: demand.resident - 1)
    assert choose_order(two, None) is not None
    assert choose_order(replace(two, handed_over=False), None) is None


def test_groups_have_a_batch_for_each_caption_of_an_image(demand):
    batch = demand.settings.batch_size
    assert all(order.batches(120, batch).min() >= 3 for order in demand.orders())
    masked = replace(demand, settings=replace(demand.settings, same_image="masked"))
    assert min(order.together for order in masked.orders()) == batch


def test_the_rows_of_a_group_are_no_more_than_was_computed(demand, streamed):
    for order in demand.orders():
        groups = order.groups(120, demand.settings.batch_size, np.random.default_rng(0))
        read = [streamed.train._read(group)[1] for group in groups]
        most = max(pairs.images.nbytes + pairs.texts.nbytes for pairs in read)
        assert memory_plan.GROUPS_HELD * most <= demand.streamed(order)


def test_the_most_images_of_a_block():
    assert most_images(np.repeat(np.arange(6), 4), 4) == 0.25
    assert most_images(np.arange(24) % 6, 4) == 1.0
    assert most_images(np.repeat(np.arange(6), 4), 6) == pytest.approx(2 / 6)


@pytest.mark.parametrize("device", ["cpu"])
def test_data_are_loaded_in_the_way_that_was_chosen(demand, device):
    assert isinstance(load_within(demand, None, torch.device(device)).train, ResidentPairs)
    assert isinstance(load_within(demand, ORDER, torch.device(device)).train, StreamedPairs)


@pytest.mark.parametrize(("head", "loss"), STATEFUL, ids=NAMED)
def test_a_streamed_training_ends_with_the_weights_of_one_in_memory(head, loss, streamed, in_blocks):
    settings = experiment(head, loss, batch_size=16, num_epochs=2, **REGULARISED)
    first, second = (fit(settings, data, seed=0) for data in (streamed, in_blocks))
    assert first.history[1]["loss"] == second.history[1]["loss"]
    assert_same(first.model.state_dict(), second.model.state_dict())


def test_a_streamed_training_starts_from_the_same_closed_form(streamed, in_blocks):
    settings = experiment("mlp", model={"skip": "cca", "whitening": "pca"}, batch_size=16, num_epochs=1)
    first, second = (fit(settings, data, seed=0) for data in (streamed, in_blocks))
    assert_same(first.model.state_dict(), second.model.state_dict())


def test_a_streamed_training_goes_on_bit_for_bit(streamed, tmp_path):
    settings = experiment("align", {"type": "align"}, batch_size=16, num_epochs=3, **REGULARISED)
    whole = fit(settings, streamed, seed=0)
    checkpoint, steps = Checkpoint(tmp_path / "checkpoint.pt", "mine", seconds=1000.0), 0

    def interrupt_in_a_later_group(state) -> None:
        nonlocal steps
        steps += 1
        if steps == 14:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "write_if_due", lambda self, state: interrupt_in_a_later_group(state))
        with pytest.raises(KeyboardInterrupt):
            fit(settings, streamed, seed=0, checkpoint=checkpoint)
    resumed = fit(settings, streamed, seed=0, checkpoint=checkpoint)
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert [record["loss"] for record in resumed.history[1:]] == [record["loss"] for record in whole.history[1:]]


def test_rows_that_another_training_holds_need_no_room(demand, left, monkeypatch):
    left(demand.resident - 1)
    assert choose_order(demand, None) is not None
    monkeypatch.setattr(memory_plan, "bytes_to_hold", lambda files, dtype: 0)
    assert choose_order(demand, demand.resident - 1) is not None
    left(0)
    assert choose_order(demand, None) is None


@pytest.mark.parametrize(("head", "loss"), [("mlp", "queue"), ("blip", "blip")])
def test_a_training_with_a_longer_queue_is_expected_to_take_what_it_takes_more(head, loss, files, data):
    """Held as numbers of 32 bits: the queue, and a block of logits with its keys."""
    expected, taken = [], []
    for size in (1, 20000):
        settings = experiment(head, {"type": loss, "queue_size": size}, output_dim=8, batch_size=60)
        expected.append(Demand.of(settings, files["train"], files["val"], torch.float32).steps)
        taken.append(most_held(partial(fit_one_step, settings, data)))
    assert taken[1] - taken[0] > 4 * 20000 * (2 * 8 + 60)
    assert taken[1] - taken[0] <= expected[1] - expected[0] < 2 * (taken[1] - taken[0])


def test_whitening_is_expected_to_take_its_matrices(files):
    plain, whitened = (
        Demand.of(experiment(model={"whitening": kind}), files["train"], files["val"], torch.float32).steps
        for kind in ("none", "pca")
    )
    assert whitened - plain == 4 * COPIES_OF_BUFFERS * (12**2 + 9**2)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_trial_of_a_study_is_expected_to_take_more_than_its_largest(path, files):
    study, draws = load_study(path), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    pairs = files["train"], files["val"], torch.float32
    most = Demand.of_largest(largest_experiments(study), *pairs)
    for _ in range(40):
        drawn = propose(draws.ask(), study, path.stem)
        assert Demand.of(drawn, *pairs).steps <= most.steps
        assert drawn.training.batch_size <= most.settings.batch_size


def fit_one_step(settings: Experiment, data: TrainingData) -> None:
    """Start a training, and take a step on the first pairs."""
    state = start(settings, data, seed=0)
    state.loss.start_step(0.5)
    train_step(state, data.train.batch(torch.arange(60)), 1.0, settings.training)
