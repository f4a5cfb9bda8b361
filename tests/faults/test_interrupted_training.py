"""A training that is killed or told to stop, wherever that is, ends bit for bit as an undisturbed one."""

import itertools
import signal
from pathlib import Path

import pytest
import torch

from frozenalign.system import signals as interruption
from frozenalign.system.errors import UserError
from frozenalign.system.signals import Terminated, held_back
from frozenalign.training import checkpoints
from frozenalign.training import fit as training
from frozenalign.training.checkpoints import Checkpoint
from frozenalign.training.fit import fit
from frozenalign.training.optimizer import AdamW
from tests.small_training import NAMED, REGULARISED, STATEFUL, assert_same, experiment
from workflow.scripts import train


class Killed(BaseException):
    """The end of a killed process: nothing in the program may catch it."""


class KilledAfterWriting(Checkpoint):
    """A checkpoint that ends the process after it was written."""

    def write(self, state) -> None:
        super().write(state)
        raise Killed


@pytest.fixture
def always_better(monkeypatch) -> None:
    """Let every epoch be the best so far, so that the weights that come back are those of the last step."""
    values = itertools.count()
    monkeypatch.setattr(training, "monitored", lambda summary, monitor: next(values))


@pytest.fixture
def sigterm_raises() -> None:
    before = signal.getsignal(signal.SIGTERM)
    interruption.terminate_like_interrupt()
    yield
    signal.signal(signal.SIGTERM, before)


def checkpoint(folder: Path, seconds: float = 0.0, fingerprint: str = "mine") -> Checkpoint:
    return Checkpoint(folder / "checkpoint.pt", fingerprint, seconds)


def assert_ends_alike(first, second) -> None:
    assert first.history == second.history
    assert (first.best_epoch, first.epoch, first.step) == (second.best_epoch, second.epoch, second.step)
    for part in ("model", "loss", "momentum_copy", "average"):
        if getattr(second, part) is not None:
            assert_same(getattr(first, part).state_dict(), getattr(second, part).state_dict())
    for name, tensors in second.optimizer.state_dict().items():
        assert all(map(torch.equal, first.optimizer.state_dict()[name], tensors)), name


@pytest.mark.parametrize("regularised", [{}, REGULARISED], ids=["plain", "regularised"])
@pytest.mark.parametrize(("head", "loss"), STATEFUL, ids=NAMED)
def test_a_training_killed_after_every_single_step_ends_as_an_undisturbed_one(
    head, loss, regularised, data, tmp_path, always_better
):
    settings = experiment(head, loss, num_epochs=3, **regularised)
    undisturbed = fit(settings, data, seed=0)
    kills = 0
    while True:
        torch.manual_seed(kills)
        try:
            fit(settings, data, 0, checkpoint=KilledAfterWriting(tmp_path / "checkpoint.pt", "mine", 0.0))
        except Killed:
            kills += 1
        if kills == undisturbed.step + 3:
            break
    resumed = fit(settings, data, 0, checkpoint=checkpoint(tmp_path))
    assert_ends_alike(resumed, undisturbed)
    assert list(tmp_path.iterdir()) == []


def test_the_best_weights_and_the_patience_outlive_a_kill(data, tmp_path, monkeypatch):
    values = itertools.count(0, -1)
    monkeypatch.setattr(training, "monitored", lambda summary, monitor: next(values))
    settings = experiment(patience=3)
    for _ in range(6):
        with pytest.raises(Killed):
            fit(settings, data, 0, checkpoint=KilledAfterWriting(tmp_path / "checkpoint.pt", "mine", 0.0))
    resumed = fit(settings, data, 0, checkpoint=checkpoint(tmp_path))
    assert (resumed.best_epoch, resumed.epoch) == (0, 4)
    assert_same(resumed.model.state_dict(), fit(settings, data, 0).model.state_dict())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["in a step", "in validation", "in writing a checkpoint"])
def test_a_signal_writes_the_state_and_says_where_it_is(
    when, number, data, tmp_path, monkeypatch, always_better, sigterm_raises
):
    settings = experiment("align", {"type": "align"}, weight_average="ema")
    undisturbed = fit(settings, data, seed=0)
    owner, name, call = {
        "in a step": (AdamW, "step", 7),
        "in validation": (training, "project_standardized", 4),
        "in writing a checkpoint": (checkpoints, "write_checkpoint", 1),
    }[when]
    calls, original = itertools.count(1), getattr(owner, name)

    def interrupting(*arguments, **options):
        if next(calls) == call:
            signal.raise_signal(number)
        return original(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, interrupting)
        seconds = 0.0 if when == "in writing a checkpoint" else 1000.0
        with pytest.raises(
            KeyboardInterrupt, match=r"in epoch \d after step \d+, \d epochs validated; the state is in"
        ):
            fit(settings, data, 0, checkpoint=checkpoint(tmp_path, seconds))
    assert_ends_alike(fit(settings, data, 0, checkpoint=checkpoint(tmp_path)), undisturbed)


def test_a_signal_within_a_step_waits_for_its_end_and_keeps_its_kind(sigterm_raises):
    done = []
    with pytest.raises(Terminated), held_back():
        signal.raise_signal(signal.SIGTERM)
        done.append("the rest of the step")
    assert done


def test_a_second_sigterm_before_the_state_is_written_changes_nothing(sigterm_raises, data, tmp_path):
    """Slurm sends two at a time limit."""

    class Late(Checkpoint):
        def write(self, state) -> None:
            signal.raise_signal(signal.SIGTERM)
            super().write(state)

    def interrupt(record: dict) -> None:
        if record["epoch"] == 2:
            signal.raise_signal(signal.SIGTERM)

    settings = experiment()
    with pytest.raises(Terminated, match="the state is in"):
        fit(settings, data, 0, interrupt, Late(tmp_path / "checkpoint.pt", "mine", 1000.0))
    seen = []
    assert_ends_alike(fit(settings, data, 0, seen.append, checkpoint(tmp_path)), fit(settings, data, 0))
    assert seen[0]["epoch"] > 1


@pytest.mark.parametrize("spoil", ["another fingerprint", "cut off", "another format", "not there"])
def test_a_checkpoint_that_is_not_of_this_training_is_not_used(spoil, data, tmp_path, monkeypatch, caplog):
    settings, seen = experiment(), []
    with pytest.raises(Killed):
        fit(settings, data, 0, checkpoint=KilledAfterWriting(tmp_path / "checkpoint.pt", "mine", 0.0))
    path = tmp_path / "checkpoint.pt"
    if spoil == "cut off":
        path.write_bytes(path.read_bytes()[:1000])
    elif spoil == "another format":
        monkeypatch.setattr(checkpoints, "FORMAT", 99)
    elif spoil == "not there":
        path.unlink()
    fingerprint = "other" if spoil == "another fingerprint" else "mine"
    again = fit(settings, data, 0, seen.append, checkpoint(tmp_path, 1000.0, fingerprint))
    assert [record["epoch"] for record in seen] == [0, 1, 2, 3, 4]
    assert_same(again.model.state_dict(), fit(settings, data, 0).model.state_dict())
    assert ("starting anew" in caplog.text) is (spoil != "not there")


def test_a_checkpoint_of_other_code_is_not_used(data_dir, split_dir, tmp_path, monkeypatch, caplog):
    (tmp_path / "mine.yaml").write_text("{model: {type: linear}, loss: {type: clip}, training: {num_epochs: 2}}")
    where = ["--experiment", tmp_path / "mine.yaml", "--data-dir", data_dir, "--split-dir", split_dir]
    arguments = [str(argument) for argument in [*where, "--output-dir", tmp_path / "run", "--checkpoint-seconds", 0]]
    with monkeypatch.context() as patched:
        patched.setattr(train, "Checkpoint", KilledAfterWriting)
        with pytest.raises(Killed):
            train.main(arguments)
    monkeypatch.setattr(train, "code_hash", lambda script: "of the next version")
    train.main(arguments)
    assert "checkpoint.pt is of another configuration, other data or other code" in caplog.text


def test_a_short_training_writes_no_checkpoint(data, tmp_path):
    seen = []
    fit(experiment(), data, 0, lambda record: seen.extend(tmp_path.iterdir()), checkpoint(tmp_path, 30))
    assert seen == []


def test_training_goes_on_where_a_checkpoint_cannot_be_written(data, tmp_path, monkeypatch, caplog):
    def full(*arguments) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(checkpoints, "write_checkpoint", full)
    trained = fit(experiment(), data, 0, checkpoint=checkpoint(tmp_path))
    assert trained.epoch == 4
    assert "no checkpoint: the disk is full" in caplog.text


def test_writing_takes_a_twentieth_of_the_time_at_the_most(data, tmp_path, monkeypatch):
    clock = itertools.count(0.0, 2.0)
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    written = checkpoint(tmp_path, 30.0)
    written.write(training.start(experiment(), data, 0))
    assert written.seconds == 40.0
