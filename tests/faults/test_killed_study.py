"""A study whose processes are killed, in any order and at any moment, ends with its budget and loses no trial."""

import contextlib
import csv
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from frozenalign.tuning.trial_budget import ABANDONED, NOT_COUNTED, counted_trials
from tests.workflow.conftest import copy_of_the_project

STUDY = """
trials: {trials}
n_jobs: 2
pruner: {{type: none}}
base:
  model: {{type: mlp, output_dim: 8, hidden_dim: 16}}
  loss: {{type: infonce}}
  training: {{batch_size: 16, num_epochs: {epochs}, patience: {epochs}, warmup_steps: 2}}
search_space:
  - {{key: training.learning_rate, type: float, low: 1e-4, high: 1e-2, log: true}}
  - {{key: model.dropout, type: float, low: 0.0, high: 0.5}}
"""
ROOT = Path(__file__).parents[2]
SECONDS_TO_END = 5


def finished_trials(database: Path) -> int:
    """Count without Optuna, which would make missing tables while the study makes them.

    Opened for writing: a reader cannot undo what a killed writer left half-done, and would see no trial at all.
    """
    if not database.exists():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def all_trials(folder: Path, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'study.db'}")


@dataclass
class TuneRun:
    """A real run of the tune script, in a session of its own."""

    command: list[str]
    folder: Path
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the same command, again."""
        with (self.folder / "log.txt").open("ab") as log:
            # A process that does not end says where it is, when it is aborted.
            environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=environment, start_new_session=True, stderr=log)

    def said(self) -> str:
        """Return what all runs so far have logged."""
        return (self.folder / "log.txt").read_text()

    def wait_for_finished(self, count: int, seconds: float = 180) -> None:
        """Wait until so many trials are complete, or the run has ended."""
        deadline = time.monotonic() + seconds
        while finished_trials(self.folder / "study.db") < count and self.process.poll() is None:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def assert_ends_well(self, seconds: float = 300) -> None:
        """Wait for the end, which is far off on a busy machine; a run that hangs says where."""
        try:
            status = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            status = self.process.wait()
        assert status == 0, self.said()

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes: children of the fork server."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
            return [process for process in family if process.ppid() != self.process.pid]
        return []

    def family(self) -> list[psutil.Process]:
        """Return all processes that the run has started, and itself."""
        with contextlib.suppress(psutil.NoSuchProcess):
            coordinator = psutil.Process(self.process.pid)
            return [coordinator, *coordinator.children(recursive=True)]
        return []


def kill_a_worker(run: TuneRun) -> None:
    with contextlib.suppress(IndexError, psutil.NoSuchProcess):
        random.choice(run.workers()).kill()


def kill_all_workers(run: TuneRun) -> None:
    for worker in run.workers():
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


def end(run: TuneRun, send: Callable[[], None]) -> None:
    """End a run by a signal; no process of it may live on, or write to its study."""
    family = run.family()
    with contextlib.suppress(ProcessLookupError):
        send()
    try:
        run.process.wait(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        run.process.send_signal(signal.SIGABRT)
        run.process.wait()
        pytest.fail(run.said())
    _, alive = psutil.wait_procs(family[1:], timeout=SECONDS_TO_END)
    assert not alive


def kill_the_coordinator(run: TuneRun) -> None:
    end(run, lambda: os.kill(run.process.pid, signal.SIGKILL))


def terminate_the_coordinator(run: TuneRun) -> None:
    end(run, lambda: os.kill(run.process.pid, signal.SIGTERM))


def kill_the_group(run: TuneRun) -> None:
    end(run, lambda: os.killpg(run.process.pid, signal.SIGKILL))


def press_control_c(run: TuneRun) -> None:
    end(run, lambda: os.killpg(run.process.pid, signal.SIGINT))


LEAVE_IT_RUNNING = [kill_a_worker, kill_all_workers]
END_IT = [kill_the_coordinator, terminate_the_coordinator, kill_the_group, press_control_c]


@pytest.fixture
def tune_run(data_dir, split_dir, tmp_path) -> Callable[..., TuneRun]:
    """Return a way to prepare a study of some trials, each of some epochs."""

    def prepare(trials: int, epochs: int, name: str = "steady") -> TuneRun:
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.yaml").write_text(STUDY.format(trials=trials, epochs=epochs))
        folders = ["--data-dir", data_dir, "--split-dir", split_dir, "--output-dir", folder]
        command = [sys.executable, "-m", "workflow.scripts.tune", "--study", folder / f"{name}.yaml", *folders]
        return TuneRun([str(part) for part in command], folder)

    return prepare


def finished_values(run: TuneRun) -> dict[int, float]:
    """Return the value of every trial that counts by now; a study that was never made has none."""
    try:
        study = all_trials(run.folder, run.folder.name)
    except KeyError:
        return {}
    return {trial.number: trial.value for trial in counted_trials(study)}


def assert_complete(folder: Path, name: str, budget: int) -> None:
    """Exactly the budget is complete, nothing is under way, and what was interrupted was tried again."""
    with (folder / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["state"] for row in rows] == ["COMPLETE"] * budget
    study = all_trials(folder, name)
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    counted = counted_trials(study)
    assert len(counted) == budget
    assert len({tuple(trial.params.values()) for trial in counted}) == budget
    for interrupted in (trial for trial in study.trials if trial.user_attrs.get(NOT_COUNTED) == ABANDONED):
        later = study.trials[interrupted.number + 1 :]
        assert not interrupted.params or any(_repeats(trial, interrupted) for trial in later)


def _repeats(trial: FrozenTrial, other: FrozenTrial) -> bool:
    return other.params.items() <= trial.params.items() | trial.system_attrs.get("fixed_params", {}).items()


@pytest.mark.slow
def test_a_study_survives_the_kill_of_a_worker_and_of_its_coordinator(tune_run):
    run = tune_run(trials=6, epochs=60)
    run.start()
    run.wait_for_finished(1)
    kill_a_worker(run)
    run.wait_for_finished(2)
    kill_the_coordinator(run)
    before = finished_values(run)
    assert 2 <= len(before) < 6
    run.start()
    run.assert_ends_well()
    assert_complete(run.folder, "steady", 6)
    assert before.items() <= finished_values(run).items()


@pytest.mark.soak
def test_control_c_says_where_the_study_stands(tune_run):
    run = tune_run(trials=8, epochs=60)
    for _ in range(2):
        run.start()
        run.wait_for_finished(len(finished_values(run)) + 1)
        press_control_c(run)
        assert run.process.returncode == 130
        finished = re.findall(r"interrupted: (\d) of 8 trials are finished; run the same command to go on", run.said())
        assert int(finished[-1]) == len(finished_values(run)) < 8
    run.start()
    run.assert_ends_well()
    assert_complete(run.folder, "steady", 8)
    assert "Traceback" not in run.said()
    assert "Warning" not in run.said()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_a_study_survives_kills_at_random_moments(tune_run, seed):
    random.seed(seed)
    run = tune_run(trials=12, epochs=60)
    run.start()
    kept: dict[int, float] = {}
    for _ in range(5):
        time.sleep(random.uniform(0, 7))
        random.choice(LEAVE_IT_RUNNING if random.random() < 0.4 else END_IT)(run)
        if run.process.poll() is not None:
            now = finished_values(run)
            assert kept.items() <= now.items()
            kept = now
            run.start()
    run.assert_ends_well()
    assert_complete(run.folder, "steady", 12)
    assert kept.items() <= finished_values(run).items()


@pytest.mark.soak
def test_a_killed_snakemake_leaves_a_study_that_goes_on_and_a_second_one_takes_part_in(tmp_path):
    project = copy_of_the_project(tmp_path)
    study = "results/demo/tuning/short"
    project.write("config/tuning/short.yaml", STUDY.format(trials=8, epochs=150))
    project.snakemake("splits")
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "tuned"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    snakemake = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 180
    while finished_trials(tmp_path / study / "study.db") < 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    orphans = psutil.Process(snakemake.pid).children(recursive=True)
    snakemake.kill()
    snakemake.wait()

    project.run("snakemake", "--unlock")
    project.snakemake("tuned")
    psutil.wait_procs(orphans, timeout=120)
    assert_complete(tmp_path / study, "short", 8)
