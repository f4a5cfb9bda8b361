"""What a file holds decides whether rules run again: no clock, no copy that keeps old times, no `touch`."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import related_embeddings, write_set
from tests.workflow.conftest import Project, copy_of_the_project

pytestmark = pytest.mark.slow

YEAR = 365 * 24 * 3600
CONFIGURATION = """
dataset: mine
datasets:
  mine: {dir: data/mine, split: {fractions: {train: 0.6, val: 0.2, test: 0.2}}}
experiments: [quick_test]
baselines: []
tuning: []
device: cpu
"""


def shift_times(paths: list[Path], seconds: float) -> None:
    """Date files as a machine would whose clock is so many seconds ahead."""
    for path in paths:
        if path.is_file():
            status = path.stat()
            os.utime(path, (status.st_atime + seconds, status.st_mtime + seconds))


def write_with_its_old_time(path: Path, content: bytes) -> None:
    """Replace a file as a copy would that keeps times."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, (status.st_atime, status.st_mtime))


@pytest.fixture(scope="module")
def split_of_mine(tmp_path_factory) -> Project:
    """A project with a user's own data, divided."""
    project = copy_of_the_project(tmp_path_factory.mktemp("mine"))
    project.write("config/config.yaml", CONFIGURATION)
    write_set(project.folder / "data/mine", *in_metadata(seed=0))
    project.snakemake("splits")
    return project


def in_metadata(seed: int) -> tuple:
    images, texts, ids = related_embeddings(60, 3, seed)
    return images, texts, {"image_ids": ids}


@pytest.mark.parametrize("seconds", [YEAR, -YEAR])
def test_machines_whose_clocks_differ_rerun_nothing(finished, seconds):
    results = [path for path in (finished.folder / "results").rglob("*") if "/logs/" not in str(path)]
    try:
        shift_times(results, seconds)
        assert finished.stale_jobs() == {}
    finally:
        shift_times(results, -seconds)


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("config/experiments/quick_test.yaml", {"train": 3, "evaluate": 3, "ensemble": 1, "report": 1}),
        ("config/tuning/short.yaml", {"tune": 1, "train": 1, "evaluate": 1, "ensemble": 1, "report": 1}),
        ("workflow/lib/ensemble.py", {"ensemble": 1, "report": 1}),
        ("workflow/report/report.css", {"report": 1}),
    ],
)
def test_a_change_that_kept_its_old_time_is_not_missed(finished, name, rules):
    path = finished.folder / name
    before = path.read_bytes()
    try:
        write_with_its_old_time(path, before + b"\n")
        assert finished.stale_jobs() == rules
    finally:
        write_with_its_old_time(path, before)
    assert finished.stale_jobs() == {}


def test_embeddings_of_ones_own_are_known_by_their_content(split_of_mine, tmp_path):
    folder = split_of_mine.folder / "data/mine"
    for path in folder.iterdir():
        os.utime(path)
    assert split_of_mine.stale_jobs("splits") == {}

    shutil.copytree(folder, tmp_path / "before")
    write_set(tmp_path / "other", *in_metadata(seed=1))
    texts = "train2017_text_embeddings.pt"
    write_with_its_old_time(folder / texts, (tmp_path / "other" / texts).read_bytes())
    assert split_of_mine.stale_jobs("splits") == {"split": 1, "splits": 1}
    write_with_its_old_time(folder / texts, (tmp_path / "before" / texts).read_bytes())
    assert split_of_mine.stale_jobs("splits") == {}
