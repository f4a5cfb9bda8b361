"""The results of a study: a table of its trials, the best experiment, the importance of its parameters."""

import json
import logging
import math
import shutil
from collections.abc import Callable
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from frozenalign.configuration.experiments import experiment_from, load_experiment
from frozenalign.configuration.result_files import read_result
from frozenalign.data.inputs import Inputs, Manifest
from frozenalign.system.errors import UserError
from frozenalign.system.files import write_yaml
from frozenalign.tuning.results import best_experiment, importances, trials_table
from workflow.scripts.curves import main as curves
from workflow.scripts.tune import main as tune

RATE, DROPOUT = "training.learning_rate", "model.dropout"
State = TrialState


def experiment(learning_rate: float = 1e-5) -> dict[str, Any]:
    document = {
        "model": {"type": "mlp", "hidden_dim": 32},
        "loss": {"type": "siglip", "bias_init": "auto"},
        "training": {"learning_rate": learning_rate},
    }
    return experiment_from(document, "test").as_document()


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name="small", direction="maximize")


@pytest.fixture
def add(study) -> Callable[..., None]:
    def add(state: TrialState, value: float | None = None, params: dict[str, float] | None = None, **facts) -> None:
        params = params or {}
        distributions = {name: FloatDistribution(0.0, 1.0) for name in params}
        study.add_trial(
            create_trial(state=state, value=value, params=params, distributions=distributions, user_attrs=facts)
        )

    return add


def test_the_table_has_a_row_for_each_trial_that_counts(study, add):
    add(State.COMPLETE, 250.0, {RATE: 0.01, DROPOUT: 0.2}, epochs=8, seconds=1.5)
    add(State.FAIL, not_counted="interrupted")
    add(State.PRUNED, 90.0, {RATE: 0.02}, epochs=2, seconds=0.5)
    add(State.FAIL, params={RATE: 0.03}, seconds=0.1, reason="the loss became nan")
    add(State.FAIL, params={RATE: 0.04})
    add(State.RUNNING, params={RATE: 0.05})
    add(State.WAITING)
    study.set_user_attr("abandoned_trials", [4])
    table = trials_table(study)
    assert list(table.columns) == ["number", "state", "value", "epochs", "seconds", "reason", RATE, DROPOUT]
    assert table["number"].tolist() == [0, 2, 3]
    assert table["state"].tolist() == ["COMPLETE", "PRUNED", "FAIL"]
    assert table["value"].tolist()[:2] == [250.0, 90.0]
    assert table["epochs"].tolist()[:2] == [8, 2]
    assert table["seconds"].tolist() == [1.5, 0.5, 0.1]
    assert table["reason"].tolist()[2] == "the loss became nan"
    assert table[RATE].tolist() == [0.01, 0.02, 0.03]
    empty = [table["value"][2], table["epochs"][2], table["reason"][0], table[DROPOUT][1]]
    assert all(value is None or math.isnan(value) for value in empty)
    last = table.to_csv(index=False).splitlines()[2:]
    assert last == ["2,PRUNED,90.0,2,0.5,,0.02,", "3,FAIL,,,0.1,the loss became nan,0.03,"]


def test_the_best_experiment_loads_again_as_a_file(study, add, tmp_path):
    add(State.COMPLETE, 200.0, experiment=experiment(1e-3))
    add(State.COMPLETE, 300.0, experiment=experiment(3e-5))
    add(State.COMPLETE, 250.0, experiment=experiment(1e-2))
    add(State.PRUNED, 400.0, experiment=experiment(1e-1))
    write_yaml(tmp_path / "best_config.yaml", best_experiment(study, "RSUM"))
    found = load_experiment(tmp_path / "best_config.yaml")
    assert found.description == "Best of 4 trials of the study small (trial 1)."
    assert found.as_document() == experiment(3e-5) | {"description": found.description}


def test_the_first_of_two_equal_trials_is_the_best(study, add):
    for rate in (1e-3, 2e-3):
        add(State.COMPLETE, 200.0, experiment=experiment(rate))
    assert best_experiment(study, "RSUM")["training"]["learning_rate"] == 1e-3


def test_trials_that_all_score_the_same_are_said_to_have_chosen_none(study, add):
    for value in (600.0, 600.0):
        add(State.COMPLETE, value, experiment=experiment())
    assert best_experiment(study, "RSUM")["description"].endswith(
        "Warning: every trial has the validation RSUM 600.0, so that none was chosen."
    )
    assert "every trial has the validation t2i R@1 600.0," in best_experiment(study, "t2i R@1")["description"]
    add(State.COMPLETE, 599.0, experiment=experiment())
    assert "Warning" not in best_experiment(study, "RSUM")["description"]


def test_a_study_without_a_completed_trial_has_no_best(study, add):
    add(State.PRUNED, 90.0, experiment=experiment())
    add(State.FAIL, reason="the loss became nan")
    with pytest.raises(UserError, match=r"'small' has no completed trial: raise `trials`, or set pruner\.type: none"):
        best_experiment(study, "RSUM")


def test_the_parameter_that_decides_the_value_has_the_larger_share(study, add, rng):
    for rate, dropout in rng.random((60, 2)).tolist():
        add(State.COMPLETE, 100 * rate, {RATE: rate, DROPOUT: dropout})
    found = importances(study)
    assert set(found) == {RATE, DROPOUT}
    assert sum(found.values()) == pytest.approx(1.0)
    assert found[RATE] > 0.8


@pytest.mark.parametrize("values", [[], [100.0], [100.0, 100.0, 100.0]], ids=["none", "one", "all equal"])
def test_too_few_different_trials_have_no_importances(study, add, values):
    for place, value in enumerate(values):
        add(State.COMPLETE, value, {RATE: 0.1 * place, DROPOUT: 0.2})
    add(State.PRUNED, 50.0, {RATE: 0.9, DROPOUT: 0.9})
    assert importances(study) == {}


def test_parameters_that_only_some_trials_have_take_part(study, add, rng):
    for value in rng.random(30).tolist():
        add(State.COMPLETE, 100 * value, {RATE: value})
        add(State.COMPLETE, 50.0 + value, {DROPOUT: value})
    assert set(importances(study)) == {RATE, DROPOUT}


STUDY = {
    "trials": 3,
    "pruner": {"type": "none"},
    "base": {
        "model": {"type": "linear", "output_dim": 8},
        "loss": {"type": "infonce"},
        "training": {"num_epochs": 2, "batch_size": 8, "monitor": "t2i R@5"},
    },
    "search_space": [{"key": RATE, "type": "float", "low": 1e-4, "high": 1e-2, "log": True}],
}


def test_the_script_writes_every_result_and_needs_no_test_split(data_dir, split_dir, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    shutil.copytree(split_dir, tmp_path / "split", ignore=shutil.ignore_patterns("test.npz"))
    (tmp_path / "small.yaml").write_text(json.dumps(STUDY))
    folders = ["--data-dir", data_dir, "--split-dir", tmp_path / "split", "--output-dir", tmp_path / "out"]
    tune([str(argument) for argument in ["--study", tmp_path / "small.yaml", "--device", "cpu", *folders]])
    trials = pd.read_csv(tmp_path / "out" / "trials.csv")
    best = load_experiment(tmp_path / "out" / "best_config.yaml")
    assert trials["state"].tolist() == ["COMPLETE"] * 3
    assert best.training.learning_rate == trials[RATE][trials["value"].idxmax()]
    best_value = trials["value"].max()
    assert f"found: val t2i R@5 {best_value:.1f}, best of 3 trials" in caplog.text
    described = read_result(tmp_path / "out" / "study.json")
    assert described["monitor"] == "t2i R@5"
    inputs = Inputs(**described["inputs"])
    assert inputs == Manifest.read(split_dir).inputs("train_tuning")
    assert (tmp_path / "out" / "study.db").stat().st_size > 0
    curves(["--studies", str(tmp_path / "out")])
    for name in ("optimization_history.png", "parameter_importance.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
