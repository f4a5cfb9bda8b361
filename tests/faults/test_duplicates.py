"""A step that is started while it runs, or after it has finished: it waits, computes nothing, and changes nothing."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from frozenalign.system.files import read_json
from frozenalign.system.finished import KEPT, RECORD
from tests.faults.conftest import Chain, Step, contents
from tests.workflow.conftest import Project, copy_of_the_project

ROOT = Path(__file__).parents[2]
# Threads that wait for each other on a busy machine lose seconds.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
EXPERIMENT = """
model: {type: mlp, output_dim: 16, hidden_dim: 32}
loss: {type: infonce}
training: {batch_size: 64, num_epochs: 200, patience: 200}
"""
CHANGES = {
    "train": [("--seed", "1"), ("--set", "training.learning_rate=0.01"), ("--train-split", "train_tuning")],
    "baselines": [("--dataset", "another")],
    "evaluate": [("--captions-rule", "first5"), ("--split", "val")],
    "ensemble": [("--captions-rule", "first5"), ("--dataset", "another")],
}
LOGGED = """
import pathlib, sys, time
from frozenalign.system.logs import in_its_log
from frozenalign.system.errors import run
def main():
    with in_its_log(pathlib.Path(sys.argv[1])):
        print(sys.argv[2], "begins", flush=True)
        time.sleep(float(sys.argv[3]))
        print(sys.argv[2], "ends", flush=True)
run(main)
"""


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something holds, for a limited time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def says(path: Path, text: str) -> bool:
    return path.is_file() and text in path.read_text(encoding="utf-8")


def logged(log: Path, name: str, seconds: float) -> subprocess.Popen:
    """Start a process that has a log, says when it begins and ends, and sleeps in between."""
    command = [sys.executable, "-c", LOGGED, log, name, str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def inodes(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return inode and bytes of every file below a folder, by its path."""
    return {path: ((folder / path).stat().st_ino, content) for path, content in contents(folder).items()}


def test_who_waits_for_a_log_says_for_whom_gives_a_deleted_one_its_name_back_and_adds_to_it(tmp_path):
    log = tmp_path / "step.log"
    log.write_text("of an earlier run\n")
    first = logged(log, "first", 2)
    until(lambda: says(log, "first begins"))
    written = log.stat().st_ino
    log.unlink()
    second = logged(log, "second", 0)
    assert second.stderr.readline() == f"waiting for process {first.pid} on {os.uname().nodename}, which writes {log}\n"
    assert (log.stat().st_ino, log.read_text()) == (written, "first begins\n")
    assert first.wait() == second.wait() == 0
    assert log.read_text() == "first begins\nfirst ends\nsecond begins\nsecond ends\n"
    assert list(contents(tmp_path)) == ["step.log"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_waits_ends_at_once_when_told_to(number, status, tmp_path):
    first = logged(tmp_path / "step.log", "first", 60)
    until(lambda: says(tmp_path / "step.log", "first begins"))
    second = logged(tmp_path / "step.log", "second", 0)
    second.stderr.readline()
    second.send_signal(number)
    assert second.wait(timeout=60) == status
    assert "Traceback" not in second.stderr.read()
    assert first.poll() is None
    first.kill()


def test_a_killed_writer_of_a_log_holds_nobody_up_and_the_next_log_is_its_own(tmp_path):
    first = logged(tmp_path / "step.log", "first", 60)
    until(lambda: says(tmp_path / "step.log", "first begins"))
    first.kill()
    first.wait()
    second = logged(tmp_path / "step.log", "second", 0)
    assert second.communicate(timeout=60) == ("", "")
    assert (tmp_path / "step.log").read_text() == "second begins\nsecond ends\n"
    assert list(contents(tmp_path)) == ["step.log"]


def test_an_error_while_a_step_is_imported_is_in_its_log_and_one_before_that_on_the_console(tmp_path):
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, tmp_path / "workflow/scripts", "train", "--log", tmp_path / "train.log"]
    (tmp_path / "workflow/scripts/train.py").write_text("import absent\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert (tmp_path / "train.log").read_text().endswith("No module named 'absent'\n")
    (tmp_path / "workflow/lib/frozenalign/system/logs.py").write_text("import absent\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("No module named 'absent'\n")


def train_command(folder: Path, data_dir: Path, split_dir: Path) -> list[str]:
    """Return the command of a training with a log, as a rule runs it."""
    (folder / "long.yaml").write_text(EXPERIMENT)
    where = ["--experiment", folder / "long.yaml", "--data-dir", data_dir, "--split-dir", split_dir]
    script = [sys.executable, ROOT / "workflow/scripts", "train", "--log", folder / "log"]
    return [*map(str, [*script, *where, "--output-dir", folder / "run", "--device", "cpu"])]


def test_of_two_processes_of_one_training_the_second_waits_and_computes_nothing(data_dir, split_dir, tmp_path):
    command = train_command(tmp_path, data_dir, split_dir)
    first = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)
    until(lambda: says(tmp_path / "log", "epoch 1/"))
    (tmp_path / "log").unlink()
    second = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)
    assert second.stderr.readline().startswith(f"waiting for process {first.pid} on ".encode())
    assert first.poll() is None
    assert first.wait() == 0
    results = inodes(tmp_path / "run")
    assert second.wait() == 0
    assert inodes(tmp_path / "run") == results
    log = (tmp_path / "log").read_text()
    assert log.count("epoch 200/200") == log.count("nothing to compute: ") == 1
    found = [line.partition("found: ")[2] for line in log.splitlines() if "found: " in line]
    assert len(found) == 2
    assert found[0] == found[1]


def copied(chain: Chain, name: str, folder: Path) -> tuple[Path, list[Path]]:
    """Return a copy of the results of a step, and the files that it records as finished."""
    output = folder / name
    shutil.copytree(chain.results / name, output)
    finished = output / "ridge" / "seed0" if name == "baselines" else output
    return output, [finished / path for path in read_json(finished / KEPT / RECORD)["files"]]


@pytest.mark.parametrize("name", CHANGES)
def test_a_finished_step_leaves_its_files_and_puts_deleted_ones_back(name, chain: Chain, tmp_path, caplog):
    output, written = copied(chain, name, tmp_path)
    before = inodes(output)
    with caplog.at_level(logging.INFO):
        chain.steps[name].run(output)
        assert inodes(output) == before
        for path in written:
            path.unlink()
        chain.steps[name].run(output)
    assert contents(output) == {path: text for path, (_, text) in before.items()}
    assert caplog.text.count("found: ") == caplog.text.count("nothing to compute: ") == 2


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in CHANGES for change in CHANGES[name]])
def test_a_changed_setting_makes_everything_again(name, change, chain: Chain, tmp_path):
    output, written = copied(chain, name, tmp_path)
    before = [path.stat().st_mtime_ns for path in written]
    step = chain.steps[name]
    Step(step.main, (*step.arguments, *change)).run(output)
    assert all(path.stat().st_mtime_ns > time for path, time in zip(written, before, strict=True))


@pytest.mark.parametrize("name", CHANGES)
def test_changed_code_makes_everything_again(name, chain: Chain, tmp_path, monkeypatch):
    output, written = copied(chain, name, tmp_path)
    before = [path.stat().st_mtime_ns for path in written]
    step = chain.steps[name]
    monkeypatch.setitem(step.main.__globals__, "code_hash", lambda script: "edited")
    step.run(output)
    assert all(path.stat().st_mtime_ns > time for path, time in zip(written, before, strict=True))


def test_a_finished_study_writes_the_same_again_from_its_trials(chain: Chain, tmp_path):
    output = tmp_path / "tune"
    shutil.copytree(chain.results / "tune", output)
    results = {name: (output / name).read_bytes() for name in ("best_config.yaml", "trials.csv", "study.json")}
    for name in results:
        (output / name).unlink()
    chain.steps["tune"].run(output)
    assert {name: (output / name).read_bytes() for name in results} == results


LONG = "results/demo/long/seed0"


@pytest.fixture
def project(tmp_path) -> Project:
    """A copy of the project with one experiment, which trains for some seconds."""
    copy = copy_of_the_project(tmp_path)
    copy.write("config/experiments/long.yaml", EXPERIMENT)
    run = copy.read("config/config.yaml").replace("[quick_test, pairs]", "[long]").replace("[short]", "[]")
    copy.write("config/config.yaml", run)
    return copy


def running_step(project: Project, name: str) -> int | None:
    """Return the number of the process that runs a step of a project."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            is_here = (entry / "cwd").resolve() == project.folder.resolve()
        except OSError:
            continue
        if is_here and words[2:3] == [name.encode()] and words[1].endswith(b"scripts"):
            return int(entry.name)
    return None


def start_snakemake(project: Project) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["snakemake", "--cores", "2"]
    return subprocess.Popen(
        command, cwd=project.folder, env=os.environ | {"PATH": path}, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.soak
def test_after_the_death_of_snakemake_its_surviving_training_is_waited_for_and_nothing_is_made_twice(project):
    log = project.folder / "results/demo/logs/train-long-seed0.log"
    snakemake = start_snakemake(project)
    until(lambda: says(log, "epoch 1/"))
    survivor = running_step(project, "train")
    snakemake.kill()
    snakemake.wait()
    done = inodes(project.folder / "results/demo/split")
    project.snakemake("--unlock")
    said = project.snakemake(f"{LONG}/best_model.pt")
    assert f"waiting for process {survivor} on " in said
    assert inodes(project.folder / "results/demo/split") == done
    assert log.read_text().count("epoch 200/200") == log.read_text().count("nothing to compute: ") == 1
    assert project.stale_jobs(f"{LONG}/best_model.pt") == {}


@pytest.mark.soak
def test_the_snakemake_within_a_cluster_job_keeps_finished_outputs(project):
    """It runs with --force, so that it deletes the outputs of its target before the script starts."""
    target = f"{LONG}/evaluation_results/metrics.json"
    project.snakemake(target)
    results = inodes(project.folder / LONG)
    for each in (f"{LONG}/best_model.pt", target, "results/demo/cca/seed0/best_model.pt"):
        project.snakemake("--force", each)
    assert inodes(project.folder / LONG) == results
    assert says(project.folder / "results/demo/logs/train-long-seed0.log", "found: val RSUM")


@pytest.mark.soak
def test_a_training_that_fails_after_a_good_one_leaves_no_model_and_the_good_settings_find_theirs(project):
    model = project.folder / LONG / "best_model.pt"
    project.snakemake(f"{LONG}/best_model.pt")
    before = model.stat().st_ino
    project.write("config/experiments/long.yaml", EXPERIMENT.replace("patience", "learning_rate: 1e30, patience"))
    failed = project.run("snakemake", "--cores", "2", f"{LONG}/best_model.pt")
    assert failed.returncode != 0
    assert not model.exists()
    assert project.stale_jobs()["train"] == 1
    project.write("config/experiments/long.yaml", EXPERIMENT)
    project.snakemake(f"{LONG}/best_model.pt")
    assert model.stat().st_ino == before
