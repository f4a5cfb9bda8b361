"""A study whose process is killed goes on where it stopped, and its budget is kept exactly."""

import contextlib
import csv
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

pytestmark = pytest.mark.slow

STUDY = """
trials: 8
n_jobs: 2
pruner: {type: none}
base:
  model: {type: mlp, output_dim: 8, hidden_dim: 16}
  loss: {type: infonce}
  training: {batch_size: 16, num_epochs: 60, patience: 60, warmup_steps: 2}
search_space:
  - {key: training.learning_rate, type: float, low: 1e-4, high: 1e-2, log: true}
"""
ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_study_completes_its_budget(data_dir, split_dir, tmp_path, how):
    (tmp_path / "steady.yaml").write_text(STUDY)
    database = tmp_path / "study.db"
    folders = ["--data-dir", data_dir, "--split-dir", split_dir, "--output-dir", tmp_path]
    command = [sys.executable, "-m", "workflow.scripts.tune", "--study", tmp_path / "steady.yaml", *folders]

    running = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while finished_trials(database) < 2 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.2)
    os.killpg(running.pid, how)
    assert running.wait(timeout=30) != 0
    assert 2 <= finished_trials(database) < 8

    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    with (tmp_path / "trials.csv").open() as stream:
        trials = list(csv.DictReader(stream))
    assert len(trials) == 8
    assert {trial["state"] for trial in trials} == {"COMPLETE"}
    study = optuna.load_study(study_name="steady", storage=f"sqlite:///{database}")
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
