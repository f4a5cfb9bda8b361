"""A Slurm on this host, and a project with a tiny data set that runs on it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.cluster.slurm import die_with_parent
from tests.conftest import related_embeddings, write_set
from tests.workflow.conftest import copy_of_the_project

ROOT = Path(__file__).parents[2]
PLUGINS = Path(sys.prefix, "cluster-plugins")
SECONDS = 240
CONFIGURATION = """
dataset: tiny
datasets:
  tiny:
    dir: data/tiny
    split: {counts: {train: 40, val: 10, test: 10}, tuning_pairs: 50}
experiments: [slow]
baselines: []
tuning: []
seeds: [0, 1, 2]
"""
# Long enough to be hit while it trains.
EXPERIMENT = """
model: {type: mlp, output_dim: 8, hidden_dim: 16}
loss: {type: infonce}
training: {batch_size: 16, num_epochs: 500, patience: 500, warmup_steps: 0}
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs: the folder of its files."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which its commands, this Python and the plugins are found."""
        path = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        return os.environ | {"PATH": path, "PYTHONPATH": str(PLUGINS)}

    def ask(self, command: str, *arguments: str) -> str:
        """Return what a command of the cluster prints."""
        done = subprocess.run([self.folder / "bin" / command, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def jobs(self, form: str, *arguments: str) -> list[list[str]]:
        """Return the fields of `squeue --format`, divided by `|`, for each job that the cluster knows."""
        said = self.ask("squeue", "--noheader", f"--format={form}", *arguments)
        return [line.split("|") for line in said.splitlines()]

    def job_of(self, wildcards: str) -> tuple[str, str]:
        """Return the id and the node of the running training with these wildcards, once there is one."""

        def found() -> list[list[str]]:
            return [
                row for row in self.jobs("%i|%k|%N", "--states=R") if row[1].endswith(f"train_wildcards_{wildcards}")
            ]

        wait_for(f"training {wildcards}", found)
        job, _, node = found()[0]
        return job, node

    def hurry(self, job: str) -> None:
        """Start a job of a lost node at once, which Slurm would do after two minutes."""
        wait_for(f"job {job} in the queue again", lambda: self.jobs("%T", f"--jobs={job}") == [["PENDING"]])
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    def lose(self, node: str) -> None:
        """Kill a node: its daemon, and all processes that it has started, without a word to any."""
        os.kill(int((self.folder / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            ours = f"SLURM_CONF={self.folder}/slurm.conf".encode() in variables
            if ours and (f"SLURMD_NODENAME={node}".encode() in variables or command.startswith(b"slurmstepd")):
                os.kill(int(process.name), signal.SIGKILL)


@dataclass(frozen=True)
class TinyProject:
    """A copy of the project with embeddings of 60 images, already divided."""

    folder: Path

    def snakemake(self, cluster: Cluster, profile: str, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake on a cluster."""
        command = ["snakemake", "--workflow-profile", f"profiles/{profile}", "--latency-wait", "5", *arguments]
        log = (self.folder / "said.txt").open("w")
        # A group of its own: Ctrl-C of the tests is not Snakemake's.
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=cluster.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def finished(self, run: subprocess.Popen[str]) -> tuple[int, str]:
        """Return the exit status of Snakemake and what it said; a run that hangs fails the test."""
        try:
            status = run.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            pytest.fail(f"Snakemake hangs: {self.said()}")
        return status, self.said()

    def said(self) -> str:
        """Return what the last run has said."""
        return (self.folder / "said.txt").read_text()

    def models(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the tensors of every trained head, by seed."""
        paths = sorted(self.folder.glob("results/tiny/slow/seed*/best_model.pt"))
        return {path.parent.name: tensors_of(torch.load(path, weights_only=True)) for path in paths}

    def trains(self, seed: int) -> bool:
        """Return whether a training has begun its epochs."""
        log = self.folder / f"results/tiny/logs/train-slow-seed{seed}.log"
        return log.is_file() and "epoch" in log.read_text()


def tensors_of(value: object, name: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of a model file by the names under which they lie."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    parts = value.items() if isinstance(value, dict) else ()
    return {path: tensor for key, part in parts for path, tensor in tensors_of(part, f"{name}/{key}").items()}


def wait_for(what: str, is_there: Callable[[], object], seconds: float = 90) -> None:
    """Wait until something is there."""
    until = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > until:
            pytest.fail(f"no {what} within {seconds} s")
        time.sleep(0.3)


@contextmanager
def started(*options: str) -> Iterator[Cluster]:
    """Run a cluster during a block; where it cannot be started, the tests are skipped with the reason."""
    if not PLUGINS.is_dir():
        pytest.skip(f"NOT TESTED: no plugins in {PLUGINS}: run make test-cluster")
    # Sockets have short paths.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    command = [sys.executable, "-m", "tests.cluster.slurm", str(folder), *options]
    with (folder / "starter.err").open("w") as errors:
        starter = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        if starter.stdout.readline().strip() != "ready":
            starter.wait()
            pytest.skip(f"NOT TESTED: no Slurm on this host: {(folder / 'starter.err').read_text()[-500:]}")
        yield Cluster(folder)
    finally:
        starter.stdin.close()
        starter.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def plain() -> Iterator[Cluster]:
    """Two nodes of 2 CPUs and 8 GB, without accounting and without GPUs."""
    with started() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def accounting() -> Iterator[Cluster]:
    """Two nodes of 2 CPUs, 8 GB and a GPU, with accounting."""
    with started("--accounting", "--gpus") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """A project whose images are divided."""
    folder = tmp_path_factory.mktemp("template")
    project = copy_of_the_project(folder)
    project.write("config/config.yaml", CONFIGURATION)
    project.write("config/experiments/slow.yaml", EXPERIMENT)
    project.write("config/experiments/quick.yaml", EXPERIMENT.replace("500", "2"))
    images, texts, ids = related_embeddings(60, 2)
    captions = [f"caption {number}" for number in range(len(ids))]
    write_set(folder / "data/tiny", images, texts, {"image_ids": ids, "captions": captions})
    project.snakemake("splits")
    return folder


@pytest.fixture
def project(template, tmp_path) -> TinyProject:
    """A project of the test's own."""
    shutil.copytree(template, tmp_path / "project", symlinks=True)
    return TinyProject(tmp_path / "project")


@pytest.fixture(scope="session")
def undisturbed(template, tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """The heads as one machine trains them without interruption."""
    folder = tmp_path_factory.mktemp("undisturbed") / "project"
    shutil.copytree(template, folder, symlinks=True)
    command = [str(Path(sys.executable).with_name("snakemake")), "--cores", "2", "trained"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return TinyProject(folder).models()


def attempts(said: str, job: str) -> int:
    """Return how often Snakemake has started a job."""
    return len(re.findall(rf"^{re.escape(job)}(?:, again)?$", said, re.MULTILINE))
