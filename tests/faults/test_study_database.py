"""The study's database is busy, slow, locked, damaged or on a full disk: the budget holds, or one sentence says why."""

import contextlib
import dataclasses
import gc
import itertools
import logging
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
import torch
from optuna.trial import TrialState

from frozenalign.configuration.experiments import Experiment
from frozenalign.configuration.studies import load_study
from frozenalign.system.errors import UserError
from frozenalign.tuning import storage as study_storage
from frozenalign.tuning import study as tuning
from frozenalign.tuning.opening import StudyRun
from frozenalign.tuning.storage import Database, StorageError
from frozenalign.tuning.study import run_study
from frozenalign.tuning.trial_budget import ABANDONED, NOT_COUNTED, counted_trials
from tests.small_training import study_text

STUDY = study_text(4)
# Locks the database for a random time, again and again, until it is killed.
LOCKER = """
import random, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
while True:
    connection.execute("BEGIN EXCLUSIVE")
    print("held", flush=True)
    time.sleep(random.uniform(0, float(sys.argv[2])))
    connection.execute("ROLLBACK")
    time.sleep(random.uniform(0, float(sys.argv[3])))
"""


@contextlib.contextmanager
def locked(database: Path, held: float, between: float = 0.02) -> Iterator[None]:
    """Let another process lock the database at random for the block."""
    command = [sys.executable, "-c", LOCKER, str(database), str(held), str(between)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def slow_disk(seconds: float) -> Iterator[None]:
    """Delay every statement of every database of this process."""

    def wait(*_: Any) -> None:
        time.sleep(seconds)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", wait)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", wait)


@contextlib.contextmanager
def interrupted_at(moment: str, number: int) -> Iterator[None]:
    """Raise KeyboardInterrupt before or after statement `number` of this process's databases."""
    statements = itertools.count()

    def interrupt(*_: Any) -> None:
        if next(statements) == number:
            raise KeyboardInterrupt

    sqlalchemy.event.listen(sqlalchemy.Engine, moment, interrupt)
    try:
        yield
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, moment, interrupt)


@pytest.fixture
def run(tmp_path) -> StudyRun:
    (tmp_path / "small.yaml").write_text(STUDY)
    return StudyRun("small", load_study(tmp_path / "small.yaml"), tmp_path, "hash of the inputs", pairs=20_000)


@pytest.fixture
def trained(monkeypatch) -> Callable[[Callable[[], None]], None]:
    """Replace training by three epochs without work, and a function that is called before each."""

    def replace_fit(before_epoch: Callable[[], None] = lambda: None) -> None:
        def pretend(experiment: Experiment, data: Any, seed: int, canonical: Any, on_epoch: Callable[[dict], None]):
            for epoch in range(3):
                before_epoch()
                on_epoch({"epoch": epoch + 1, "val": {"RSUM": 1e4 * experiment.training.learning_rate + epoch}})

        monkeypatch.setattr(tuning, "fit", pretend)

    return replace_fit


@pytest.fixture
def impatient_sqlite(monkeypatch) -> None:
    """Let SQLite refuse at once, as it does to a reader that begins to write, and let all waits be short."""
    monkeypatch.setattr(study_storage, "ASKING_SECONDS", 0.0)
    monkeypatch.setattr(study_storage, "LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr("random.random", lambda: 0.0)


def test_an_operation_that_was_refused_as_busy_is_repeated_and_done_once(tmp_path, impatient_sqlite, caplog):
    study = optuna.create_study(storage=Database(tmp_path / "study.db").open())
    done = []
    with locked(tmp_path / "study.db", held=0.01), caplog.at_level(logging.DEBUG, study_storage.__name__):
        while caplog.text.count("is busy: trying again") <= 8 and len(done) < 1000:
            number = len(done)
            study.enqueue_trial({"x": number})
            trial = study.ask()
            trial.suggest_float("x", 0, 1000)
            trial.set_user_attr("number", number)
            trial.report(number, 0)
            study.set_user_attr("last", number)
            study.tell(trial, number)
            done.append(number)
    assert caplog.text.count("is busy: trying again") > 8
    kept = optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.number for trial in kept.trials] == done
    assert [trial.value for trial in kept.trials] == [trial.params["x"] for trial in kept.trials] == done
    assert [trial.user_attrs["number"] for trial in kept.trials] == done
    assert kept.user_attrs == {"last": done[-1]}


def test_a_study_has_its_budget_though_others_lock_its_database(run, trained, impatient_sqlite):
    trained()
    run_study(dataclasses.replace(run, study=dataclasses.replace(run.study, trials=1)), None)
    with locked(run.folder / "study.db", held=0.01):
        study = run_study(run, None)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4


def test_waits_grow_and_end(tmp_path, monkeypatch):
    waits, clock = [], itertools.count(step=0.0)
    now = [0.0]
    monkeypatch.setattr(study_storage.time, "monotonic", lambda: now[0] + next(clock))

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(study_storage.time, "sleep", sleep)
    monkeypatch.setattr(study_storage.random, "uniform", lambda low, high: high)

    def refused() -> None:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    with pytest.raises(StorageError, match="was locked for 20 s"):
        Database(tmp_path / "study.db", patience=20).ask(refused)
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_a_database_that_stays_locked_is_named_after_a_bounded_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("random.random", lambda: 0.0)
    database = Database(tmp_path / "study.db", patience=0.3)
    study = optuna.create_study(storage=database.open())
    began = time.monotonic()
    with locked(database.path, held=1000):
        for operation in (database.open, study.ask):
            with pytest.raises(StorageError, match=r"study\.db was locked for 0 s: close what else uses it \(a dash"):
                operation()
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("hurried_databases")
def test_a_slow_disk_loses_no_trial(run, trained):
    trained()
    with slow_disk(0.003):
        study = run_study(run, None)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4
    assert all(len(trial.intermediate_values) == 3 for trial in study.trials)


@pytest.mark.usefixtures("hurried_databases", "hurried_watch")
@pytest.mark.parametrize("moment", ["before_cursor_execute", "after_cursor_execute"])
@pytest.mark.parametrize("every", [pytest.param(23, marks=pytest.mark.soak), 97])
def test_an_interruption_within_any_statement_ends_at_once_and_costs_no_trial(run, trained, tmp_path, moment, every):
    trained()
    for number in itertools.count(40, every):
        one = dataclasses.replace(run, folder=tmp_path / str(number))
        began = time.monotonic()
        try:
            with interrupted_at(moment, number):
                run_study(one, None)
            break
        except KeyboardInterrupt:
            assert time.monotonic() - began < 5
        # Close connections that the interruption left in a transaction, as the end of the process does.
        gc.collect()
        study = run_study(one, None)
        assert [trial.state for trial in counted_trials(study)] == [TrialState.COMPLETE] * 4
        assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
        assert len({trial.params["training.learning_rate"] for trial in counted_trials(study)}) == 4
    assert number > 200


DAMAGES = {
    "another file": lambda whole: b"these are no trials" * 1000,
    "cut off": lambda whole: whole[: len(whole) // 2],
    "only a header": lambda whole: whole[:100],
    "overwritten": lambda whole: whole[:4096] + bytes(8192) + whole[12288:],
    "old header": lambda whole: b"SQLite format 2\0" + whole[16:],
}


@pytest.mark.usefixtures("hurried_databases")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_named_with_what_to_do(damage, run, trained):
    trained()
    run_study(dataclasses.replace(run, study=dataclasses.replace(run.study, trials=2)), None)
    database = run.folder / "study.db"
    database.write_bytes(DAMAGES[damage](database.read_bytes()))
    with pytest.raises(UserError, match=r"study\.db is damaged \(.*\): restore a copy, or delete it") as caught:
        run_study(run, None)
    assert "\n" not in str(caught.value)
    database.unlink()
    assert len(counted_trials(run_study(run, None))) == 4


def test_a_disk_that_becomes_full_stops_the_study_and_its_trial_is_tried_again(run, trained, small_disk):
    run = dataclasses.replace(run, folder=small_disk.folder)
    epochs = itertools.count()
    trained(lambda: small_disk.fill() if next(epochs) == 4 else None)
    with pytest.raises(StorageError, match=r"cannot write .*study\.db \([\d,]+ bytes free\): the disk has no room"):
        run_study(run, None)
    small_disk.make_room()
    study = run_study(run, None)
    assert [trial.state for trial in counted_trials(study)] == [TrialState.COMPLETE] * 4
    assert [trial.number for trial in study.trials if trial.user_attrs.get(NOT_COUNTED) == ABANDONED] == [1]
    assert study.trials[2].params == study.trials[1].params


def test_a_database_on_a_read_only_disk_is_named(run, trained, small_disk):
    trained()
    run_study(dataclasses.replace(run, study=dataclasses.replace(run.study, trials=1)), None)
    database = Database(small_disk.folder / "study.db")
    shutil.copy(run.folder / "study.db", database.path)
    small_disk.remount("ro")
    with pytest.raises(UserError, match=r"cannot write .*study\.db: the file system is read-only"):
        database.open().set_study_user_attr(1, "key", "value")


def slow_and_busy_worker(worker: int, run: StudyRun, data: Any, canonical: Any, device: str, threads: int) -> None:
    """Replace a worker process: a slow disk, an SQLite that refuses at once, trainings of 0.1 s."""
    study_storage.ASKING_SECONDS, study_storage.LONGEST_WAIT_SECONDS = 0.0, 0.5

    def pretend(experiment: Experiment, data: Any, seed: int, canonical: Any, on_epoch: Callable[[dict], None]):
        for epoch in range(3):
            time.sleep(0.03)
            on_epoch({"epoch": epoch + 1, "val": {"RSUM": 1e4 * experiment.training.learning_rate + epoch}})

    tuning.fit = pretend
    with slow_disk(0.01):
        WORKER(worker, run, data, canonical, device, threads)


WORKER = tuning._worker_process


class NoData:
    """Data of a training that does not look at them."""

    def to(self, device: torch.device) -> "NoData":
        return self


@pytest.mark.soak
@pytest.mark.parametrize(("held", "between"), [(0.05, 0.5), (1.0, 2.0)])
def test_several_workers_share_a_busy_database_on_a_slow_disk(held, between, run, trained, monkeypatch):
    trained()
    run_study(dataclasses.replace(run, study=dataclasses.replace(run.study, trials=1)), None)
    monkeypatch.setattr(tuning, "_worker_process", slow_and_busy_worker)
    several = dataclasses.replace(run, study=dataclasses.replace(run.study, trials=8, n_jobs=3))
    with locked(run.folder / "study.db", held, between):
        study = run_study(several, NoData())
    counted = counted_trials(study)
    assert [trial.state for trial in counted] == [TrialState.COMPLETE] * 8
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    assert len({trial.params["training.learning_rate"] for trial in counted}) == 8
