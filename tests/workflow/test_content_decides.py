"""A user's own embeddings are known by what they hold: no `touch` reruns anything, no copy with old times is missed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import related_embeddings, write_set
from tests.workflow.conftest import Project, copy_of_the_project, write_with_its_old_time

pytestmark = pytest.mark.slow

MTIME = ("--rerun-triggers", "mtime")
ALL = {"split": 1, "baselines": 1, "evaluate": 1, "figures": 1, "report": 1}
# Nothing is made of the second data set, nor by a rule all that lies in results/: neither hides a change.
CONFIGURATION = """
dataset: mine
datasets:
  mine: {dir: data/mine, split: {assignments: results/division.json}}
  demo: {dir: data, generate: {images: 30}}
experiments: []
baselines: [cca]
tuning: []
device: cpu
"""


@pytest.fixture(scope="module")
def finished_with_mine(tmp_path_factory) -> Project:
    """A project with a user's own data and an extra set, run to its end; tests leave it as they found it."""
    project = copy_of_the_project(tmp_path_factory.mktemp("mine"))
    project.write("config/config.yaml", CONFIGURATION)
    write_sets(project.folder / "data/mine", seed=0)
    (project.folder / "results").mkdir()
    project.write("results/division.json", json.dumps(division(val=10)))
    project.snakemake()
    return project


def write_sets(folder: Path, seed: int) -> None:
    for prefix, images in (("train2017", 60), ("val2017", 20)):
        image_rows, texts, ids = related_embeddings(images, 3, seed)
        ids = [i if prefix == "train2017" else 10 * i for i in ids]
        write_set(folder, image_rows, texts, {"image_ids": ids}, prefix)


def division(val: int) -> dict[str, str]:
    """Return the split of 60 images, of which 10 test."""
    return {str(1000 + i): "test" if i < 10 else "val" if i < 10 + val else "train" for i in range(60)}


@contextmanager
def encoded_anew(project: Project, name: str, keep_time: bool) -> Iterator[None]:
    """Let a file of the user's hold other embeddings."""
    path, other = project.folder / "data/mine" / name, project.folder / "other"
    before = path.read_bytes()
    write_sets(other, seed=1)
    write = write_with_its_old_time if keep_time else Path.write_bytes
    write(path, (other / name).read_bytes())
    try:
        yield
    finally:
        write(path, before)


@pytest.mark.parametrize("trigger", ["mtime", "params"])
def test_captions_and_pictures_train_nothing_again(finished_with_mine, trigger):
    path = finished_with_mine.folder / "data/mine/train2017_metadata.json"
    whole, metadata = path.read_bytes(), json.loads(path.read_text())
    more = {
        "image_files": {str(image_id): f"{image_id}.jpg" for image_id in metadata["image_ids"]},
        "captions": [f"another caption {i}" for i in range(len(metadata["image_ids"]))],
    }
    try:
        for name, value in more.items():
            path.write_text(json.dumps(metadata | {name: value}))
            assert set(finished_with_mine.stale_jobs("--rerun-triggers", trigger)) == {
                "evaluate",
                "figures",
                "report",
            }, name
        path.write_text(json.dumps(metadata | {"image_ids": metadata["image_ids"][::-1]}))
        assert {"split", "baselines"} <= set(finished_with_mine.stale_jobs("--rerun-triggers", trigger))
    finally:
        path.write_bytes(whole)
    assert finished_with_mine.stale_jobs() == {}


def test_embeddings_that_were_touched_or_copied_with_their_results_rerun_nothing(finished_with_mine, tmp_path):
    for path in (finished_with_mine.folder / "data").rglob("*"):
        os.utime(path)
    copy = Project(tmp_path / "copy")
    shutil.copytree(finished_with_mine.folder, copy.folder)
    for project in (finished_with_mine, copy):
        assert project.stale_jobs() == {}
        assert project.stale_jobs(*MTIME) == {}
    shutil.rmtree(copy.folder / ".snakemake")
    assert copy.stale_jobs() == {}


@pytest.mark.parametrize("keep_time", [False, True], ids=["new time", "old time"])
@pytest.mark.parametrize(
    ("name", "jobs"),
    [("train2017_text_embeddings.pt", ALL), ("val2017_text_embeddings.pt", {"evaluate": 1, "figures": 1, "report": 1})],
)
@pytest.mark.parametrize("triggers", [(), MTIME], ids=" ".join)
def test_embeddings_encoded_anew_are_missed_with_no_triggers(finished_with_mine, name, jobs, keep_time, triggers):
    with encoded_anew(finished_with_mine, name, keep_time):
        assert finished_with_mine.stale_jobs(*triggers) == jobs
    assert finished_with_mine.stale_jobs(*triggers) == {}


def test_a_division_that_kept_its_old_time_is_not_missed_where_results_lie(finished_with_mine):
    path = finished_with_mine.folder / "results/division.json"
    before = path.read_bytes()
    write_with_its_old_time(path, json.dumps(division(val=20)).encode())
    assert finished_with_mine.stale_jobs() == ALL
    write_with_its_old_time(path, before)
    assert finished_with_mine.stale_jobs() == {}


def test_results_of_other_embeddings_are_made_again_once(finished_with_mine, tmp_path):
    copy = Project(tmp_path / "copy")
    shutil.copytree(finished_with_mine.folder, copy.folder)
    write_sets(copy.folder / "data/mine", seed=2)
    copy.snakemake("splits", *MTIME)
    evaluation = "results/mine/cca/seed0/evaluation_results/metrics.json"
    assert copy.stale_jobs(evaluation, *MTIME) == {"baselines": 1, "evaluate": 1}
    copy.snakemake(evaluation, *MTIME)
    assert copy.stale_jobs(evaluation, *MTIME) == copy.stale_jobs(evaluation) == {}


def test_an_extra_set_that_comes_or_goes_is_evaluated_anew(finished_with_mine):
    extra = sorted((finished_with_mine.folder / "data/mine").glob("val2017_*"))
    for path in extra:
        path.rename(path.with_suffix(".away"))
    assert finished_with_mine.stale_jobs(*MTIME) == {"evaluate": 1, "figures": 1, "report": 1}
    for path in extra:
        path.with_suffix(".away").rename(path)
    assert finished_with_mine.stale_jobs(*MTIME) == {}


@pytest.mark.parametrize("force", [(), ("-F",), MTIME])
@pytest.mark.parametrize(
    ("missing", "key"),
    [("data/mine/train2017_text_embeddings.pt", "dir"), ("results/division.json", "split.assignments")],
)
def test_a_missing_file_is_named_though_results_of_earlier_ones_lie_there(finished_with_mine, missing, key, force):
    path = finished_with_mine.folder / missing
    path.rename(path.with_suffix(".away"))
    try:
        done = finished_with_mine.run("snakemake", "--cores", "1", "-n", *force)
    finally:
        path.with_suffix(".away").rename(path)
    assert done.returncode == 1
    assert f"{missing} not found: check `datasets.mine.{key}`, or put the file there" in done.stdout + done.stderr
    assert "Nothing to be done" not in done.stdout + done.stderr


def test_a_moved_folder_of_data_reruns_nothing(finished_with_mine):
    folder = finished_with_mine.folder
    before = finished_with_mine.read("config/config.yaml")
    (folder / "data/mine").rename(folder / "data/moved")
    finished_with_mine.write("config/config.yaml", before.replace("data/mine", "data/moved"))
    try:
        assert finished_with_mine.stale_jobs() == {}
    finally:
        (folder / "data/moved").rename(folder / "data/mine")
        finished_with_mine.write("config/config.yaml", before)
    assert finished_with_mine.stale_jobs() == {}


@pytest.fixture
def finished_with_both(finished_with_mine, tmp_path) -> Iterator[Project]:
    """The same project once the assignments name images of val2017 as well, run to its end."""
    project = Project(tmp_path / "both")
    shutil.copytree(finished_with_mine.folder, project.folder)
    named = division(val=10) | {str(10 * (1000 + i)): "test" if i % 2 else "train" for i in range(20)}
    project.write("results/division.json", json.dumps(named))
    assert project.stale_jobs(*MTIME) == project.stale_jobs() == ALL
    project.snakemake()
    manifest = json.loads((project.folder / "results/mine/split/manifest.json").read_text())
    assert (manifest["images"], manifest["splits"]["test"]["images"], manifest["extra"]) == (80, 20, {})
    return project


@pytest.mark.parametrize("triggers", [(), MTIME], ids=" ".join)
def test_a_second_set_that_is_split_as_well_decides_all(finished_with_both, triggers):
    project = finished_with_both
    assert project.stale_jobs(*triggers) == {}
    with encoded_anew(project, "val2017_text_embeddings.pt", keep_time=True):
        assert project.stale_jobs(*triggers) == ALL
    path = project.folder / "data/mine/val2017_metadata.json"
    whole, metadata = path.read_bytes(), json.loads(path.read_text())
    path.write_text(json.dumps(metadata | {"captions": ["a caption"] * 60}))
    assert project.stale_jobs(*triggers) == {"evaluate": 1, "figures": 1, "report": 1}
    path.write_text(json.dumps(metadata | {"image_ids": metadata["image_ids"][::-1]}))
    assert project.stale_jobs(*triggers) == ALL
    path.write_bytes(whole)
    assert project.stale_jobs(*triggers) == {}
    for each in sorted(path.parent.glob("val2017_*")):
        each.rename(each.with_suffix(".away"))
    assert project.stale_jobs(*triggers) == ALL
