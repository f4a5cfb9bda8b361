"""A loss that becomes NaN or infinite stops its training at that step with a message, and the best weights are kept."""

import json
import re

import pytest
import torch

from frozenalign.losses import softmax as losses
from frozenalign.models.model_file import load_heads
from frozenalign.system.errors import UserError
from frozenalign.training import epochs
from frozenalign.training import fit as training
from frozenalign.training.divergence import DivergenceError
from frozenalign.training.fit import fit
from tests.small_training import assert_same, experiment, raw, rotated_pairs
from workflow.scripts.train import main as train

EXPERIMENT = """
model: {type: mlp, output_dim: 8, hidden_dim: 16, dropout: 0.0}
loss: {type: clip}
training: {batch_size: 32, num_epochs: 6, noise: 0.0}
"""


@pytest.fixture
def broken_at_step(monkeypatch):
    """Return a function that makes the loss of one step, counted from one, a given value."""

    def arrange(step: int, value: float) -> None:
        taken = iter(range(1, 1000))
        forward = losses.CLIPLoss.forward

        def sometimes_broken(self, *arguments):
            loss = forward(self, *arguments)
            return loss * value if next(taken) == step else loss

        monkeypatch.setattr(losses.CLIPLoss, "forward", sometimes_broken)

    return arrange


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("step", "where"), [(1, "epoch 1, step 1 of 4"), (7, "epoch 2, step 3 of 4")])
def test_the_message_says_where_and_what_went_into_the_loss(step, where, value, data, broken_at_step):
    broken_at_step(step, value)
    with pytest.raises(DivergenceError) as caught:
        fit(experiment(loss={"type": "clip"}), data, seed=0)
    said = str(caught.value)
    assert said.startswith(f"the loss became {value} in {where}, at a learning rate of 0.0")
    for name in ("images", "texts", "image features", "text features", "weights"):
        assert re.search(rf"{name} -?\d\S* to -?\d", said), said
    assert "temperature 0.0" in said
    assert said.endswith("lower training.learning_rate, or set training.gradient_clip")


def test_weights_stay_those_before_the_step_that_broke(data, broken_at_step):
    whole = fit(experiment(num_epochs=1), data, seed=0)
    assert whole.step == 4
    broken_at_step(5, float("nan"))
    with pytest.raises(DivergenceError) as caught:
        fit(experiment(num_epochs=2, warmup_steps=0, learning_rate=0.01), data, seed=0)
    state = caught.value.state
    assert all(value.isfinite().all() for value in state.model.state_dict().values())
    assert state.epoch == 1
    assert state.best_state


def test_a_device_that_is_checked_once_an_epoch_skips_the_steps_after_the_broken_one(data, broken_at_step, monkeypatch):
    """As on a GPU: the steps after the broken one change no weight, and the message is the same."""
    refuse = epochs.refuse_divergence

    def broken_training() -> DivergenceError:
        with pytest.raises(DivergenceError, match="epoch 2, step 2 of 4") as caught:
            fit(experiment(), data, seed=0)
        return caught.value

    broken_at_step(6, float("nan"))
    at_once = broken_training()
    monkeypatch.undo()
    broken_at_step(6, float("nan"))
    monkeypatch.setattr(epochs, "refuse_divergence", lambda state, *rest: state.batch == 4 and refuse(state, *rest))
    later = broken_training()
    assert str(later).split("; into it")[0] == str(at_once).split("; into it")[0]
    assert_same(later.state.model.state_dict(), at_once.state.model.state_dict())


def test_a_learning_rate_that_is_too_high_is_named():
    settings = experiment("linear", learning_rate=1e38, warmup_steps=0, batch_size=10)
    with pytest.raises(DivergenceError, match=r"at a learning rate of \S+e\+3\d; into it went .* not finite.*: lower"):
        fit(settings, raw(rotated_pairs(30)), seed=0)


def test_weights_that_the_very_last_step_breaks_are_refused_as_well():
    """The only batch has a finite loss; the step after it leaves no finite feature to validate."""
    one_step = experiment("linear", batch_size=64, num_epochs=1, learning_rate=1e38)
    with pytest.raises(DivergenceError, match=r"after epoch 1, step 1, at a learning rate of 1e\+38: lower training"):
        fit(one_step, raw(rotated_pairs(30)), seed=0)


def test_a_start_that_is_not_finite_has_no_best_weights_to_keep(data_dir, split_dir, tmp_path, monkeypatch):
    def broken_start(model, *arguments) -> None:
        torch.nn.init.constant_(next(model.image_tower.parameters()), float("nan"))

    monkeypatch.setattr(training, "whiten", broken_start)
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    where = ["--experiment", tmp_path / "mine.yaml", "--data-dir", data_dir, "--split-dir", split_dir]
    with pytest.raises(UserError, match=r"NaN or infinite values before the first step: start from random weights"):
        train([str(argument) for argument in [*where, "--output-dir", tmp_path / "run", "--device", "cpu"]])
    assert not (tmp_path / "run" / "best_before_divergence.pt").exists()


def test_the_script_keeps_the_best_weights_apart_until_a_training_ends_well(
    data_dir, split_dir, tmp_path, broken_at_step, monkeypatch
):
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    run = tmp_path / "run"
    where = ["--experiment", tmp_path / "mine.yaml", "--data-dir", data_dir, "--split-dir", split_dir]
    arguments = [str(argument) for argument in [*where, "--output-dir", run, "--device", "cpu"]]
    with monkeypatch.context() as patched:
        patched.setattr(losses.CLIPLoss, "forward", losses.CLIPLoss.forward)
        broken_at_step(10, float("nan"))
        with pytest.raises(
            UserError, match=r"epoch 3, step 2 of 4.*the best before, are in .*best_before_divergence.pt"
        ):
            train(arguments)
    _, facts = load_heads(run / "best_before_divergence.pt")
    assert facts["epoch"] <= 2
    assert not (run / "best_model.pt").exists()

    monkeypatch.undo()
    train(arguments)
    assert not (run / "best_before_divergence.pt").exists()
    assert json.loads((run / "loss_history.json").read_text())["epochs"][-1]["epoch"] <= 6
    assert torch.load(run / "best_model.pt", weights_only=True)["facts"]["experiment"] == "mine"
