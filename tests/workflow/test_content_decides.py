"""A user's own embeddings are known by what they hold: no `touch` reruns anything, no copy with old times is missed."""

import os
import shutil

import pytest

from tests.conftest import related_embeddings, write_set
from tests.workflow.conftest import Project, copy_of_the_project, write_with_its_old_time

pytestmark = pytest.mark.slow

CONFIGURATION = """
dataset: mine
datasets:
  mine: {dir: data/mine, split: {fractions: {train: 0.6, val: 0.2, test: 0.2}}}
experiments: [quick_test]
baselines: []
tuning: []
device: cpu
"""


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
