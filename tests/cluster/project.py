"""A project with a tiny data set, as a test runs it on a cluster."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.cluster.asking import Cluster, wait_for
from tests.cluster.daemons import die_with_parent

# The tensors of heads, by seed and name.
Heads = dict[str, dict[str, torch.Tensor]]
SECONDS = 240
EPOCHS = 250
# Four trainings at the same time on both nodes, two on one.
ONE_CPU = ("--set-threads", "train=1", "--set-resources", "train:mem_mb=1000")


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

    def use_partition(self, profile: str, name: str) -> None:
        """Set the partition of a profile, as a user would."""
        path = self.folder / f"profiles/{profile}/profile.yaml"
        path.write_text(path.read_text().replace('partition: ""', f'partition: "{name}"'))

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

    def models(self) -> Heads:
        """Return the tensors of every trained head, by seed."""
        paths = sorted(self.folder.glob("results/tiny/slow/seed*/best_model.pt"))
        return {path.parent.name: tensors_of(torch.load(path, weights_only=True)) for path in paths}

    def inodes(self, seed: int) -> dict[str, int]:
        """Return the inode of every file of a trained head."""
        files = (self.folder / f"results/tiny/slow/seed{seed}").glob("*.*")
        return {path.name: path.stat().st_ino for path in files if not path.name.startswith(".")}

    def log(self, seed: int) -> str:
        """Return what a training has logged, nothing before it has begun."""
        path = self.folder / f"results/tiny/logs/train-slow-seed{seed}.log"
        return path.read_text() if path.is_file() else ""

    def job_logs(self) -> list[str]:
        """Return what the jobs have said to the cluster, without the logs of their steps."""
        return [path.read_text() for path in self.folder.glob(".snakemake/slurm_logs/**/*.log")]

    def hold(self, seed: int) -> int:
        """Stop the process of a training in the middle of its epochs, until SIGCONT wakes it, and return its number.

        Slurm wakes a job that it cancels, or that makes room, and then ends it. At a time limit the end comes first.
        """
        wait_for(f"epochs of seed {seed}", lambda: f"epoch 2/{EPOCHS}" in self.log(seed), every=0.02)
        holder = (self.folder / f"results/tiny/logs/.train-slow-seed{seed}.log.lock").read_text()
        process = int(re.match(r"process (\d+) on ", holder)[1])
        os.kill(process, signal.SIGSTOP)
        return process

    def release(self, process: int, after: int | None = None) -> None:
        """Wake a training that is held. after: a signal that has to reach it before."""
        if after:
            wait_for(f"signal {after} to process {process}", lambda: _was_told(process, after), every=0.05)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)

    def epoch_gone_on_in(self, seed: int) -> int:
        """Return in which epoch a training has gone on from its saved state, 0 if it has begun anew."""
        found = re.search(r"going on in epoch (\d+) after step", self.log(seed))
        return int(found[1]) if found else 0


def _was_told(process: int, number: int) -> bool:
    """Return whether a signal waits for a process that is stopped, or the process is not stopped any more."""
    try:
        status = Path(f"/proc/{process}/status").read_bytes()
    except FileNotFoundError:
        return True
    pending = int(re.search(rb"ShdPnd:\s*(\w+)", status)[1], 16)
    return b"State:\tT" not in status or bool(pending >> (number - 1) & 1)


def assert_gone_on_bit_by_bit(
    project: TinyProject, undisturbed: Heads, *seeds: int, among: Iterable[int] | None = None
) -> None:
    """Check that trainings went on in the middle, and that they, or those among whom they are, ended as undisturbed."""
    for seed in seeds:
        assert 1 < project.epoch_gone_on_in(seed) <= EPOCHS, project.log(seed)[:500]
    assert_trained(project, undisturbed, *(among or seeds))


def assert_trained(project: TinyProject, undisturbed: Heads, *seeds: int) -> None:
    """Check that these heads and no others are there, with the tensors of undisturbed trainings."""
    models = project.models()
    assert sorted(models) == [f"seed{seed}" for seed in seeds]
    for seed, tensors in models.items():
        assert tensors and tensors.keys() == undisturbed[seed].keys()
        assert all(torch.equal(tensor, undisturbed[seed][name]) for name, tensor in tensors.items()), seed


def tensors_of(value: object, name: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of a model file by the names under which they lie."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    parts = value.items() if isinstance(value, dict) else ()
    return {path: tensor for key, part in parts for path, tensor in tensors_of(part, f"{name}/{key}").items()}


def attempts(said: str, job: str) -> int:
    """Return how often Snakemake has started a job."""
    return len(re.findall(rf"^{re.escape(job)}(?:, again)?$", said, re.MULTILINE))
