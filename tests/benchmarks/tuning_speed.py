"""A study of thirty trials, against the same trials as thirty training runs through the command line."""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import optuna

from frozenalign.configuration.studies import load_study
from frozenalign.system.files import read_json, write_yaml
from frozenalign.tuning.pruners import build_pruner
from tests.benchmarks.measurement import Row, seconds_of
from tests.generated import write_generated_set
from workflow.scripts import split

ROOT = Path(__file__).parents[2]
ORDERS = 10
SCENES = 5000
EPOCHS = 10


def measure(quick: bool = False) -> list[Row]:
    """Run the study once and each of its trials once more by itself: minutes, so that nothing is repeated."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_input(folder, 200 if quick else SCENES)
        write_yaml(folder / "study.yaml", _study(quick))
        ours = seconds_of(lambda: _run(folder, "tune", "--study", "study.yaml", "--output-dir", "study"))
        trials = _trials(folder / "study")
        reference = sum(seconds_of(lambda trial=trial: _train_alone(folder, trial)) for trial in trials)
        kept = _orders_that_keep_the_best(_curves(folder, trials), pruning=load_study(folder / "study.yaml").pruner)
        pairs = read_json(folder / "split" / "manifest.json")["splits"]["train"]["pairs"]
    pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in trials)
    note = f"{pruned} pruned; the best trial survives in {kept} of {ORDERS} orders of the trials"
    return [Row(f"{len(trials)} trials on {pairs:,} pairs", ours, reference=reference, note=note)]


def _write_input(folder: Path, scenes: int) -> None:
    write_generated_set(folder / "data", images=scenes)
    folders = ["--data-dir", str(folder / "data"), "--output-dir", str(folder / "split")]
    split.main(["--dataset", "demo", *folders, "--fractions", '{"train": 0.8, "val": 0.1, "test": 0.1}'])


def _study(quick: bool) -> dict[str, Any]:
    """Return a study of the two-layer perceptron as a user would write it."""
    return {
        "description": "Width, regularisation and temperature of the two-layer perceptron.",
        "data": "train",
        "trials": 2 if quick else 30,
        "n_jobs": 1 if quick else 2,
        "base": {
            "model": {"type": "mlp", "output_dim": 256},
            "loss": {"type": "infonce"},
            "training": {"num_epochs": 1 if quick else EPOCHS, "patience": 3},
        },
        "search_space": [
            {"key": "model.hidden_dim", "type": "categorical", "choices": [256, 512, 1024]},
            {"key": "model.dropout", "type": "float", "low": 0.0, "high": 0.6, "step": 0.1},
            {"key": "loss.temperature", "type": "float", "low": 0.02, "high": 0.2, "log": True},
            {"key": "training.batch_size", "type": "categorical", "choices": [256, 512, 1024]},
            {"key": "training.learning_rate", "type": "float", "low": 1e-4, "high": 5e-3, "log": True},
        ],
    }


def _run(folder: Path, script: str, *arguments: str) -> None:
    """Run a script of the workflow in a process of its own."""
    paths = ["--data-dir", "data", "--split-dir", "split"]
    command = [sys.executable, "-m", f"workflow.scripts.{script}", *paths, *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def _trials(study: Path) -> list[optuna.trial.FrozenTrial]:
    loaded = optuna.load_study(study_name="study", storage=f"sqlite:///{study / 'study.db'}")
    return [trial for trial in loaded.trials if "experiment" in trial.user_attrs]


def _train_alone(folder: Path, trial: optuna.trial.FrozenTrial) -> None:
    experiment = f"trial{trial.number}"
    write_yaml(folder / f"{experiment}.yaml", trial.user_attrs["experiment"])
    _run(folder, "train", "--experiment", f"{experiment}.yaml", "--output-dir", experiment)


def _curves(folder: Path, trials: list[optuna.trial.FrozenTrial]) -> list[list[float]]:
    """Return the validation RSUM of every epoch of every trial, as trained alone and therefore never pruned.

    The start, which every history begins with, is no epoch of a trial.
    """
    histories = [read_json(folder / f"trial{trial.number}" / "loss_history.json") for trial in trials]
    return [[record["val"]["RSUM"] for record in history["epochs"][1:]] for history in histories]


def _orders_that_keep_the_best(curves: list[list[float]], pruning: dict[str, Any]) -> int:
    """Return in how many of ten shuffled orders the study's pruner lets the best trial run to its end."""
    best = max(range(len(curves)), key=lambda index: max(curves[index]))
    kept = 0
    for seed in range(ORDERS):
        order = random.Random(seed).sample(range(len(curves)), len(curves))
        study = optuna.create_study(direction="maximize", pruner=build_pruner(pruning))
        kept += {index: _replay(study, curves[index]) for index in order}[best]
    return kept


def _replay(study: optuna.Study, curve: list[float]) -> bool:
    """Report a recorded trial as a worker does and say whether it reached its end."""
    trial = study.ask()
    for epoch in range(1, len(curve) + 1):
        trial.report(max(curve[:epoch]), epoch)
        if epoch < EPOCHS and trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return False
    study.tell(trial, max(curve))
    return True
