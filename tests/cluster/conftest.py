"""A Slurm on this host, and a project with a tiny data set that runs on it."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.cluster.asking import PLUGINS, Cluster
from tests.cluster.project import EPOCHS, TinyProject
from tests.conftest import related_embeddings, write_set
from tests.workflow.conftest import copy_of_the_project

ROOT = Path(__file__).parents[2]
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
# Long enough to be held while it trains.
EXPERIMENT = f"""
model: {{type: mlp, output_dim: 8, hidden_dim: 16}}
loss: {{type: infonce}}
training: {{batch_size: 16, num_epochs: {EPOCHS}, patience: {EPOCHS}, warmup_steps: 0}}
"""


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


@pytest.fixture
def fragile() -> Iterator[Cluster]:
    """Two nodes as of `plain` for one test alone, which may break them."""
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
    project.write("config/experiments/quick.yaml", EXPERIMENT.replace(str(EPOCHS), "2"))
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
