"""Studies for several processes: a light objective, the three kinds of storage, and a PostgreSQL of one's own."""

import contextlib
import multiprocessing
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from frozenalign.configuration.experiments import Experiment
from frozenalign.configuration.studies import load_study
from frozenalign.tuning import liveness
from frozenalign.tuning import study as tuning
from frozenalign.tuning.opening import StudyRun, create_study
from frozenalign.tuning.trial_budget import counted_trials
from tests.small_training import study_text

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
EPOCHS, EPOCH_SECONDS = 5, 0.1


def light_worker(worker: int, run: StudyRun, host: str | None, environment: dict[str, str]) -> None:
    """Run trials whose epochs only take time; a `host` of its own makes this process one of another machine."""
    os.environ |= environment
    if host:
        socket.gethostname = lambda: host
    liveness.BEAT_SECONDS, liveness.LOOK_SECONDS, liveness.LOOKS = 0.2, 0.1, 15

    def pretend(experiment: Experiment, data: Any, seed: int, canonical: Any, on_epoch: Any) -> None:
        for epoch in range(EPOCHS):
            time.sleep(EPOCH_SECONDS)
            on_epoch({"epoch": epoch + 1, "val": {"RSUM": 1e4 * experiment.training.learning_rate + epoch}})

    tuning.fit = pretend
    tuning.run_study(run, None, worker=worker)


@dataclass
class SharedStudy:
    """A study and the processes that run its trials."""

    run: StudyRun

    def start(self, worker: int, host: str | None = None) -> BaseProcess:
        """Start one more worker."""
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=light_worker, args=(worker, self.run, host, dict(os.environ)))
        process.start()
        return process

    def study(self) -> optuna.Study:
        """Open the study, as another process would."""
        store = self.run.store
        return optuna.load_study(study_name=store.key(self.run.name), storage=store.open())

    def wait_for_running(self, count: int, seconds: float = 90) -> None:
        """Wait until so many trials are under way and have reported an epoch."""
        study, deadline = self.study(), time.monotonic() + seconds
        while True:
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if len(running) >= count and any(trial.intermediate_values for trial in running):
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def assert_complete(self) -> None:
        """Exactly the budget is complete, nothing is under way, no parameters were used twice or lost."""
        study, budget = self.study(), self.run.study.trials
        counted = counted_trials(study)
        assert [trial.state for trial in counted] == [TrialState.COMPLETE] * budget
        assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
        rates = [trial.params["training.learning_rate"] for trial in counted]
        assert len(set(rates)) == budget
        drawn = {trial.params["training.learning_rate"] for trial in study.trials if trial.params}
        assert drawn == set(rates), "what was interrupted was tried again"


def shared_study(folder: Path, storage: str, trials: int, workers: int = 3) -> SharedStudy:
    """Return a study that is made, and has no trial yet."""
    path = folder / "shared.yaml"
    path.write_text(study_text(trials) + f"workers: {workers}\nstorage: {storage}\n")
    run = StudyRun("shared", load_study(path), folder / "study", "hash of the inputs", 20_000, "small")
    create_study(run)
    return SharedStudy(run)


@dataclass
class PostgreSQL:
    """A server on a port of the loopback device, run by a user without privileges."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Where a study finds it; the user and the password are in the environment."""
        return f"postgresql://127.0.0.1:{self.port}/postgres"

    def control(self, *command: str) -> None:
        """Run pg_ctl: start, stop, restart."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        words = [PROGRAMS[-1], "-D", self.folder / "data", "-l", self.folder / "log", "-w", "-o", options, *command]
        unprivileged(words, self.folder)


def unprivileged(command: list[Any], folder: Path) -> None:
    """Run a command as a user without privileges, which PostgreSQL demands."""
    as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    words = [str(word) for word in command]
    with (folder / "said").open("ab") as said:
        subprocess.run(words, cwd=folder, stdout=said, stderr=said, check=True, **as_user)


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Start a server for the block, with a password; skip where none is installed."""
    if not PROGRAMS:
        pytest.skip("NO POSTGRESQL: apt-get install postgresql, to test studies in a database server")
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        free.bind(("127.0.0.1", 0))
        server = PostgreSQL(folder, free.getsockname()[1])
        free.close()
        secret = folder / "secret"
        secret.write_text("sesame\n")
        secret.chmod(0o644)
        unprivileged(
            [
                *(PROGRAMS[-1].with_name("initdb"), "-D", folder / "data", "-U", "tuner", "-A", "scram-sha-256"),
                *("--pwfile", secret, "--no-sync"),
            ],
            folder,
        )
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
            shutil.rmtree(folder / "data", ignore_errors=True)
