"""Several workers share a study in each kind of storage; they are killed, stopped, and the storage fails."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from frozenalign.configuration.studies import load_study
from frozenalign.system.errors import UserError
from frozenalign.tuning.journal import Journal, cut_torn_line
from frozenalign.tuning.storage import StorageError
from frozenalign.tuning.trial_budget import NOT_COUNTED
from frozenalign.tuning.worker_pool import prepare_workers
from tests.faults.shared_study import PostgreSQL, SharedStudy, postgresql, shared_study
from tests.small_training import study_text
from tests.workflow.conftest import copy_of_the_project

SECONDS_TO_END = 90
STORAGES = ["journal", "sqlite", "server"]


@pytest.fixture(scope="module", autouse=True)
def _forkserver() -> None:
    prepare_workers("tests.faults.shared_study")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGUSER", "tuner")
        patch.setenv("PGPASSWORD", "sesame")
        yield running


@pytest.fixture(params=STORAGES)
def prepared(request, tmp_path, monkeypatch) -> Callable[..., SharedStudy]:
    """Return a way to make a study in a kind of storage; a server's studies differ by the data set."""
    storage = request.param
    if storage == "server":
        running = request.getfixturevalue("server")
        monkeypatch.setenv("PGUSER", "tuner")
        storage = running.url

    def prepare(trials: int) -> SharedStudy:
        return shared_study(tmp_path, storage, trials)

    return prepare


@pytest.fixture(autouse=True)
def _fresh_server(request) -> Iterator[None]:
    """Delete what a test leaves in the server."""
    yield
    if "server" in request.fixturenames:
        _delete_studies(request.getfixturevalue("server"))


def _delete_studies(server: PostgreSQL) -> None:
    url = server.url.replace("postgresql:", "postgresql+psycopg:")
    for name in optuna.get_all_study_names(url):
        optuna.delete_study(study_name=name, storage=url)


def ended(*workers) -> list[int]:
    """Return the exit codes of workers after their end."""
    for worker in workers:
        worker.join(timeout=SECONDS_TO_END)
    return [worker.exitcode for worker in workers]


def test_workers_run_exactly_the_trials_that_are_asked_for(prepared):
    study = prepared(trials=7)
    workers = [study.start(number) for number in range(3)]
    assert ended(*workers) == [0, 0, 0]
    study.assert_complete()
    assert len({trial.user_attrs["worker"]["lock"] for trial in study.study().trials}) > 1
    assert not list(study.run.folder.glob(".worker-*"))


@pytest.mark.parametrize(
    ("sent", "host"),
    [(signal.SIGKILL, None), (signal.SIGTERM, None), (signal.SIGKILL, "elsewhere")],
    ids=["killed", "terminated", "killed on another machine"],
)
def test_the_trial_of_a_killed_worker_is_tried_again_by_the_others(prepared, sent, host):
    study = prepared(trials=6)
    killed = study.start(0, host)
    study.wait_for_running(1)
    others = [study.start(number) for number in (1, 2)]
    os.kill(killed.pid, sent)
    assert ended(killed, *others) == [-sent, 0, 0]
    study.assert_complete()
    assert [trial.user_attrs[NOT_COUNTED] for trial in study.study().trials if NOT_COUNTED in trial.user_attrs]


def test_a_worker_that_stood_still_for_too_long_comes_back_and_counts_nothing_twice(prepared):
    study = prepared(trials=4)
    stopped = study.start(0, "elsewhere")
    study.wait_for_running(1)
    os.kill(stopped.pid, signal.SIGSTOP)
    other = study.start(1)
    assert ended(other) == [0]
    study.assert_complete()
    os.kill(stopped.pid, signal.SIGCONT)
    assert ended(stopped) == [0]
    study.assert_complete()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_the_budget_holds_through_kills_and_stops_at_random(prepared, seed):
    chosen = random.Random(seed)
    study = prepared(trials=20)
    workers = [study.start(number, f"host {number}" if number % 2 else None) for number in range(4)]
    for number in range(4, 16):
        time.sleep(chosen.uniform(0, 0.8))
        place = chosen.randrange(4)
        if workers[place].is_alive():
            os.kill(workers[place].pid, chosen.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP]))
            time.sleep(chosen.choice([0.0, 3.0]))
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[place].pid, signal.SIGCONT)
                os.kill(workers[place].pid, signal.SIGKILL)
            workers[place].join()
        workers[place] = study.start(number, f"host {number}" if number % 2 else None)
    assert ended(*workers) == [0] * 4
    study.assert_complete()


def test_a_server_that_restarts_costs_no_trial(server, tmp_path):
    study = shared_study(tmp_path, server.url, trials=8)
    workers = [study.start(number) for number in range(2)]
    study.wait_for_running(1)
    server.control("restart", "-m", "immediate")
    assert ended(*workers) == [0, 0]
    study.assert_complete()


def test_a_wrong_password_is_a_sentence_without_it(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "open")
    monkeypatch.setattr("frozenalign.tuning.server.OPENING_SECONDS", 0.1)
    with pytest.raises(
        StorageError, match=r"the database server .* cannot be used \(.*authentication failed"
    ) as caught:
        shared_study(tmp_path, server.url, trials=1)
    assert "open" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:sesame@host/db", "postgresql://host/db?user=me&password=sesame", "postgres:/me:sesame@host"],
)
def test_a_password_in_a_studys_file_is_refused_and_not_repeated(url, tmp_path):
    (tmp_path / "study.yaml").write_text(study_text(1) + f"storage: {url}\n")
    with pytest.raises(UserError, match=r"study\.yaml: storage: ") as caught:
        load_study(tmp_path / "study.yaml")
    assert "sesame" not in str(caught.value)


def test_a_torn_line_is_cut_before_the_next_one_is_appended(tmp_path):
    store = Journal(tmp_path / "study.journal")
    study = optuna.create_study(study_name="torn", storage=store.open())
    study.ask()
    whole = store.path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in range(1, len(last) + 1):
        torn = last[:-cut]
        store.path.write_bytes(whole + torn)
        reader = optuna.load_study(study_name="torn", storage=store.open())
        assert [trial.state for trial in reader.trials] == [TrialState.RUNNING]
        reader.set_user_attr("cut", cut)
        assert optuna.load_study(study_name="torn", storage=store.open()).user_attrs == {"cut": cut}
    study.tell(0, 1.0)
    assert optuna.load_study(study_name="torn", storage=store.open()).best_value == 1.0


@pytest.mark.parametrize("content", [b"", b"one\n", b"one", b"one\ntwo", b"one\n" + b"x" * 200_000])
def test_only_what_follows_the_last_line_is_cut(content, tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(content)
    cut_torn_line(path)
    assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


def test_a_journal_with_a_damaged_line_is_named_with_what_to_do(tmp_path):
    store = Journal(tmp_path / "study.journal")
    optuna.create_study(study_name="damaged", storage=store.open()).ask()
    lines = store.path.read_bytes().splitlines(keepends=True)
    for damage in (b"these are no trials\n", b"{}\n", b"[]\n", b'{"op_code": 99}\n'):
        store.path.write_bytes(lines[0] + damage + b"".join(lines[1:]))
        with pytest.raises(
            StorageError, match=r"study\.journal is damaged \(.*\): restore a copy, or delete it"
        ) as caught:
            store.open()
        assert "\n" not in str(caught.value)


HOLDER = """
import fcntl, sys, time
stream = open(sys.argv[1], "a+b")
fcntl.flock(stream, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(1000)
"""


def test_a_killed_holder_of_the_journal_holds_nobody_up_and_a_stopped_one_is_passed_over(tmp_path):
    store = Journal(tmp_path / "study.journal", patience=0.5)
    study = optuna.create_study(study_name="held", storage=store.open())
    command = [sys.executable, "-c", HOLDER, tmp_path / "study.journal.lock"]
    for sent in (signal.SIGKILL, signal.SIGSTOP):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline() == b"held\n"
            holder.send_signal(sent)
            began = time.monotonic()
            study.set_user_attr("sent", int(sent))
            assert time.monotonic() - began < 5
            holder.kill()
    assert study.user_attrs == {"sent": int(signal.SIGSTOP)}


def test_a_full_disk_stops_a_journal_in_one_sentence_and_loses_nothing(small_disk):
    store = Journal(small_disk.folder / "study.journal")
    study = optuna.create_study(study_name="full", storage=store.open())
    study.set_user_attr("kept", 1)
    small_disk.fill(room=1000)
    with pytest.raises(
        StorageError, match=r"cannot write .*study\.journal \([\d,]+ bytes free\): the disk has no room"
    ):
        for number in range(1000):
            study.set_user_attr("filling", "x" * 300 + str(number))
    small_disk.make_room()
    study.set_user_attr("kept", 2)
    assert optuna.load_study(study_name="full", storage=store.open()).user_attrs["kept"] == 2


SHORT = """
trials: 6
workers: 2
pruner: {type: none}
base:
  model: {type: mlp, output_dim: 8, hidden_dim: 16}
  loss: {type: infonce}
  training: {batch_size: 16, num_epochs: 60, patience: 60, warmup_steps: 2}
search_space:
  - {key: training.learning_rate, type: float, low: 1e-4, high: 1e-2, log: true}
"""


def worker_process(number: int, folder: Path) -> psutil.Process | None:
    """Return the process of a worker job of the project in a folder."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(folder) and f"--worker={number}" in words and "tune_worker" in words:
            return process
    return None


@pytest.mark.slow
def test_snakemake_runs_two_workers_of_which_one_is_killed_and_the_same_command_again_finds_the_study_complete(
    tmp_path,
):
    project = copy_of_the_project(tmp_path)
    project.write("config/tuning/short.yaml", SHORT)
    project.snakemake("splits")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "tuned"]
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PATH": path}, stderr=subprocess.PIPE) as snakemake:
        journal = tmp_path / "results/demo/tuning/short/study.journal"
        deadline = time.monotonic() + 120
        while not journal.exists() or journal.read_bytes().count(b'"op_code":7') < 70:
            assert time.monotonic() < deadline
            assert snakemake.poll() is None
            time.sleep(0.1)
        worker_process(1, tmp_path).kill()
        said = snakemake.stderr.read().decode()
    assert snakemake.returncode != 0
    assert "tune short, worker 1 of 2: killed by SIGKILL" in said
    assert "tune short, worker 2 of 2: 6 of 6 trials" in said
    finished = journal.read_bytes()
    again = project.snakemake("tuned")
    assert "tune short, worker 1 of 2: 6 of 6 trials" in again
    assert "best of 6 trials" in again
    assert journal.read_bytes() == finished
    rows = (tmp_path / "results/demo/tuning/short/trials.csv").read_text().splitlines()
    assert len(rows) == 7
    assert all(",COMPLETE," in row for row in rows[1:])
