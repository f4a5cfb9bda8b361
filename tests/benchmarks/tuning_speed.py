"""A study of thirty trials, against the same trials as thirty training runs through the command line."""

import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner

from frozenalign.configuration.studies import load_study
from frozenalign.system.files import read_json, write_yaml
from frozenalign.tuning.pruners import build_pruner
from tests.benchmarks.measurement import Row
from tests.benchmarks.spent import Spent, spent_by
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
        ours = _run(folder, "tune", "--study", "study.yaml", "--output-dir", "study")
        trials = _trials(folder / "study")
        reference = sum((_train_alone(folder, trial) for trial in trials), Spent())
        curves = _curves(folder, trials)
        pairs = read_json(folder / "split" / "manifest.json")["splits"]["train"]["pairs"]
        pruner = build_pruner(load_study(folder / "study.yaml").pruner, pairs)
        kept, lost = _kept_in_orders(curves, pruner)
    case = f"{len(trials)} trials on {pairs:,} pairs"
    epochs = sum(trial.user_attrs["epochs"] for trial in trials) / sum(map(len, curves))
    found = max(max(curve) for curve in curves) - max(trial.value for trial in trials if trial.value is not None)
    note = (
        f"{epochs:.0%} of the epochs, {found:.2f} RSUM below the best trial; it survives in {kept} of {ORDERS} orders, "
        f"{lost:.2f} RSUM lost in the mean"
    )
    return [
        Row(case, ours.seconds, reference=reference.seconds, note=note),
        Row(f"{case}, processor", ours.processor_seconds, reference=reference.processor_seconds),
    ]


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


def _run(folder: Path, script: str, *arguments: str) -> Spent:
    """Run a script of the workflow in a process of its own and return what it took."""
    paths = ["--data-dir", "data", "--split-dir", "split"]
    command = [sys.executable, "-m", f"workflow.scripts.{script}", *paths, *arguments]
    return spent_by(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)})


def _trials(study: Path) -> list[optuna.trial.FrozenTrial]:
    loaded = optuna.load_study(study_name="study", storage=f"sqlite:///{study / 'study.db'}")
    return [trial for trial in loaded.trials if "experiment" in trial.user_attrs]


def _train_alone(folder: Path, trial: optuna.trial.FrozenTrial) -> Spent:
    experiment = f"trial{trial.number}"
    write_yaml(folder / f"{experiment}.yaml", trial.user_attrs["experiment"])
    return _run(folder, "train", "--experiment", f"{experiment}.yaml", "--output-dir", experiment)


def _curves(folder: Path, trials: list[optuna.trial.FrozenTrial]) -> list[list[float]]:
    """Return the validation RSUM of every epoch of every trial, as trained alone and therefore never pruned.

    The start, which every history begins with, is no epoch of a trial.
    """
    histories = [read_json(folder / f"trial{trial.number}" / "loss_history.json") for trial in trials]
    return [[record["val"]["RSUM"] for record in history["epochs"][1:]] for history in histories]


def _kept_in_orders(curves: list[list[float]], pruner: BasePruner) -> tuple[int, float]:
    """Return in how many of ten shuffled orders the pruner lets the best trial run to its end, and the mean RSUM lost.

    The trials are replayed as the study runs them, two at a time, epoch by epoch.
    """
    best = max(max(curve) for curve in curves)
    found = []
    for seed in range(ORDERS):
        order = random.Random(seed).sample(range(len(curves)), len(curves))
        study = optuna.create_study(direction="maximize", pruner=pruner)
        found.append(_replay(study, [curves[index] for index in order]))
    return sum(value == best for value in found), sum(best - value for value in found) / ORDERS


def _replay(study: optuna.Study, curves: list[list[float]], processes: int = 2) -> float:
    """Report recorded trials as workers do, in this order, and return the best value that a trial ends with."""
    waiting, running = list(curves), []
    while waiting or running:
        while waiting and len(running) < processes:
            running.append((study.ask(), waiting.pop(0), 1))
        running = [(trial, curve, at + 1) for trial, curve, at in running if _goes_on(study, trial, curve, at)]
    return study.best_value


def _goes_on(study: optuna.Study, trial: optuna.Trial, curve: list[float], epoch: int) -> bool:
    """Report an epoch, and say whether another one follows."""
    trial.report(max(curve[:epoch]), epoch)
    if epoch < EPOCHS and trial.should_prune():
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    elif epoch == len(curve):
        study.tell(trial, max(curve))
    else:
        return True
    return False
