"""A small copy of the project, and a way to run Snakemake in it as a user would."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGURATION = """
dataset: demo
datasets:
  demo:
    dir: data/demo
    generate: {images: 300, captions: 3}
    split: {fractions: {train: 0.6, val: 0.2, test: 0.2}, tuning_pairs: 200}
experiments: [quick_test, pairs]
baselines: [raw_cosine, cca]
tuning: [short]
device: cpu
"""
ENSEMBLES = "ensembles: {both: [quick_test, tuned-short]}\n"
VARIANTS = """
variants:
  quick_test:
    skip: {model.skip: cca}
    shuffled: {model.skip: cca, training.control: shuffled_pairs}
"""
EXPERIMENTS = {
    "pairs": """
description: The smallest head with a pair scorer.
model:
  {type: cross_modal, output_dim: 32, skip: cca, hidden_dim: 64, num_tokens: 4, num_heads: 2, rerank_k: 8}
loss: {type: infonce}
training: {batch_size: 128, num_epochs: 2, learning_rate: 3e-4}
""",
}
STUDY = """
trials: 4
n_jobs: 2
base:
  model: {type: mlp, output_dim: 32, hidden_dim: 64, skip: cca}
  loss: {type: infonce}
  training: {batch_size: 64, num_epochs: 2, warmup_steps: 2}
search_space:
  - {key: training.learning_rate, type: float, low: 1e-3, high: 1e-2, log: true}
"""


@dataclass(frozen=True)
class Project:
    """A folder with a copy of the project."""

    folder: Path

    def write(self, path: str, text: str) -> None:
        """Write a file of the copy."""
        (self.folder / path).write_text(text)

    def read(self, path: str) -> str:
        """Read a file of the copy."""
        return (self.folder / path).read_text()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, with this Python first, and return what it said."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=400)

    def snakemake(self, *arguments: str) -> str:
        """Run Snakemake to its end and return what it printed."""
        done = self.run("snakemake", "--cores", "2", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def stale_jobs(self, *arguments: str) -> dict[str, int]:
        """Return how many jobs of each rule Snakemake would run now; `all` is left out."""
        said = self.snakemake("-n", *arguments)
        if "Nothing to be done" in said:
            return {}
        table = said.split("Job stats:")[1].split("total")[0]
        jobs = {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}
        return {name: count for name, count in jobs.items() if name != "all"}


def copy_of_the_project(folder: Path) -> Project:
    """Copy what a run needs, with a small configuration."""
    for name in ("workflow", "config", "profiles", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    project = Project(folder)
    project.write("config/config.yaml", CONFIGURATION)
    project.write("config/tuning/short.yaml", STUDY)
    for name, text in EXPERIMENTS.items():
        project.write(f"config/experiments/{name}.yaml", text)
    return project


def write_with_its_old_time(path: Path, content: bytes) -> None:
    """Replace a file as a copy would that keeps times."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, (status.st_atime, status.st_mtime))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """The copy after its whole workflow has run, with an ensemble; tests leave it as they found it."""
    project = copy_of_the_project(tmp_path_factory.mktemp("a project with spaces"))
    project.write("config/config.yaml", CONFIGURATION + ENSEMBLES + VARIANTS)
    project.snakemake()
    return project
