"""Processes killed at random moments: the same command, given again, ends bit for bit where an undisturbed run does."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.workflow.conftest import copy_of_the_project

ROOT = Path(__file__).parents[2]
# Threads that wait for each other on a busy machine lose seconds.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
COMPARED = ("best_model.pt", "loss_history.json")
# Everything that a training keeps from step to step: queue, momentum copy, averages, random numbers of many kinds.
EXPERIMENT = """
model: {type: blip, output_dim: 16, hidden_dim: 32, momentum: 0.9, skip: cca}
loss: {type: blip, queue_size: 70}
training:
  {batch_size: 8, num_epochs: 60, patience: 60, weight_average: ema, mixup: 0.5, noise: 0.2, input_dropout: 0.1}
"""


def train_command(folder: Path, data_dir: Path, split_dir: Path) -> list[str]:
    """Return the command of a training that writes its state after nearly every step."""
    (folder / "steady.yaml").write_text(EXPERIMENT)
    where = ["--experiment", folder / "steady.yaml", "--data-dir", data_dir, "--split-dir", split_dir]
    options = ["--output-dir", folder / "run", "--device", "cpu", "--checkpoint-seconds", "0"]
    return [sys.executable, "-m", "workflow.scripts.train", *map(str, [*where, *options])]


def started(command: list[str], log: Path, until: str) -> subprocess.Popen:
    """Start a command in a process group of its own and wait until its log has a text, or it has ended."""
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=stream, start_new_session=True)
    deadline = time.monotonic() + 180
    while until not in log.read_text(encoding="utf-8") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def kill_at_random(command: list[str], log: Path, moments: random.Random) -> bool:
    """Run a command and kill it up to half a second after it began to train; say whether it was still running."""
    process = started(command, log, until="epoch ")
    time.sleep(moments.uniform(0.0, 0.5))
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return was_running


def finish(command: list[str]) -> None:
    """Run a command to its end."""
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, stderr=subprocess.DEVNULL)


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in COMPARED}


def killed_and_finished(folder: Path, data_dir: Path, split_dir: Path, kills: int, seed: int) -> tuple[dict, int]:
    """Kill a training so many times, from the start again whenever one ends before; return its results and kills."""
    command, moments = train_command(folder, data_dir, split_dir), random.Random(seed)
    done = 0
    for _ in range(2 * kills):
        done += kill_at_random(command, folder / "log", moments)
        if done == kills:
            break
    finish(command)
    return results(folder / "run"), done


@pytest.fixture(scope="module")
def undisturbed(data_dir, split_dir, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(train_command(folder, data_dir, split_dir))
    return results(folder / "run")


def test_a_training_killed_a_few_times_ends_bit_for_bit(undisturbed, data_dir, split_dir, tmp_path):
    found, kills = killed_and_finished(tmp_path, data_dir, split_dir, kills=2, seed=0)
    assert kills == 2
    assert found == undisturbed
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith(".")) == [
        "best_model.pt",
        "loss_history.json",
        "resolved_config.yaml",
        "run.json",
    ]


@pytest.mark.soak
def test_trainings_killed_forty_times_end_bit_for_bit(undisturbed, data_dir, split_dir, tmp_path):
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as pool:
        ended = list(
            pool.map(lambda folder: killed_and_finished(folder, data_dir, split_dir, 10, int(folder.name)), folders)
        )
    assert [kills for _, kills in ended] == [10] * 4
    assert all(found == undisturbed for found, _ in ended)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.soak)]
)
def test_a_training_told_to_stop_writes_its_state_within_five_seconds(
    number, status, undisturbed, data_dir, split_dir, tmp_path
):
    command = [*train_command(tmp_path, data_dir, split_dir), "--checkpoint-seconds", "1000"]
    process = started(command, tmp_path / "log", until="epoch 2/")
    told = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=30) == status
    assert time.monotonic() - told < 5
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("interrupted: in epoch ")
    assert last.endswith(f"the state is in {tmp_path / 'run' / 'checkpoint.pt'}: run the same command to go on")
    finish(command)
    assert results(tmp_path / "run") == undisturbed


@pytest.mark.soak
def test_a_workflow_whose_jobs_are_killed_ends_as_an_undisturbed_one(tmp_path):
    """Snakemake sees a job die, ends with an error, and goes on at the next call: training, evaluation, all of it."""
    kinds = {}
    for name, kills in (("undisturbed", 0), ("killed", 10)):
        (tmp_path / name).mkdir()
        project = copy_of_the_project(tmp_path / name)
        project.write("config/experiments/pairs.yaml", EXPERIMENT)
        moments = random.Random(kills)
        for _ in range(kills):
            kill_one_job(project.folder, moments)
        project.snakemake()
        kinds[name] = {
            path.relative_to(project.folder): path.read_bytes()
            for pattern in ("best_model.pt", "loss_history.json", "metrics.json", "ranks.npz")
            for path in sorted((project.folder / "results/demo").glob(f"[!t]*/seed0/**/{pattern}"))
        }
    assert kinds["killed"] == kinds["undisturbed"]


def kill_one_job(folder: Path, moments: random.Random) -> None:
    """Start Snakemake, kill a process of one of its jobs, and wait for Snakemake's end."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    running = subprocess.Popen(
        ["snakemake", "--cores", "2"],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + moments.uniform(5.0, 12.0)
    while time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.05)
    jobs = subprocess.run(
        ["pgrep", "-f", "workflow.scripts.(split|train|evaluate|baseline)"], capture_output=True, text=True
    )
    mine = [int(number) for number in jobs.stdout.split() if Path(f"/proc/{number}/cwd").resolve() == folder.resolve()]
    for number in mine[:1]:
        os.kill(number, signal.SIGKILL)
    running.wait(timeout=120)
