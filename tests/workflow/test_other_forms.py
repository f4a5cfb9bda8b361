"""Embeddings in other forms than the default one go through the whole chain, to the same numbers."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import related_embeddings, write_set
from tests.workflow.conftest import ROOT, Project, copy_of_the_project, write_with_its_old_time

pytestmark = pytest.mark.slow

CONFIGURATION = """
dataset: mine
datasets:
  mine:
    images: data/mine/images.npy
    texts: data/mine/texts.npz
    metadata: data/mine/pairs.csv
    split: &split {fractions: {train: 0.6, val: 0.2, test: 0.2}}
  default: {dir: data/default, split: *split}
  beside: {dir: data/beside, split: *split}
experiments: []
baselines: [raw_cosine, cca]
tuning: []
device: cpu
"""
METRICS = "results/{}/cca/seed0/evaluation_results/metrics.json"
MTIME = ("--rerun-triggers", "mtime")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project with one set in three forms, of which that with named files has been run to its end."""
    project = copy_of_the_project(tmp_path_factory.mktemp("forms"))
    project.write("config/config.yaml", CONFIGURATION)
    data = project.folder / "data"
    images, texts, ids = related_embeddings(60, 3)
    write_set(data / "default", images, texts, {"image_ids": ids, "captions": [f"caption {row}" for row in range(180)]})
    for name in ("mine", "beside"):
        (data / name).mkdir()
    np.save(data / "mine/images.npy", images)
    np.savez(data / "mine/texts.npz", texts=texts)
    write_pairs(data / "mine/pairs.csv", ids)
    for prefix, part in (("train2017", slice(None)), ("val2017", slice(0, 60))):
        np.save(data / f"beside/{prefix}_image_embeddings.npy", images[part])
        torch.save(texts[part].clone(), data / f"beside/{prefix}_text_embeddings.pt")
        write_pairs(data / f"beside/{prefix}_metadata.csv", ids[part])
    project.snakemake()
    return project


def write_pairs(path: Path, ids: list[int]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [("image_id", "caption"), *((each, f"caption {row}") for row, each in enumerate(ids))]
        )


def numbers(project: Project, dataset: str) -> dict:
    """Return what metrics.json says of the test set, without the name of the data set and what depends on it."""
    content = json.loads(project.read(METRICS.format(dataset)))
    return {name: value for name, value in content.items() if name not in ("dataset", "inputs", "extra", "models")}


def test_named_files_give_the_numbers_of_the_default_form(project):
    project.snakemake("--config", "dataset=default")
    assert not (project.folder / "results/default/embeddings").exists()
    assert numbers(project, "mine") == numbers(project, "default")
    for name in ("train2017_image_embeddings.pt", "train2017_text_embeddings.pt"):
        read = project.folder / "results/mine/embeddings" / name
        assert read.read_bytes() == (project.folder / "data/default" / name).read_bytes()


def test_files_beside_default_names_are_read_with_their_extra_set(project):
    project.snakemake("--config", "dataset=beside")
    extra = json.loads(project.read(METRICS.format("beside")))["extra"]
    assert "val2017" in extra
    assert numbers(project, "beside") == numbers(project, "mine")
    # What has the default form already is not copied.
    assert (project.folder / "results/beside/embeddings/train2017_text_embeddings.pt").is_symlink()


def test_what_a_header_says_before_the_step_is_true_after_it(project):
    """Images and texts are not equally wide, so that there is no raw_cosine: not in the first run, nor in the next."""
    assert not (project.folder / "results/mine/raw_cosine").exists()
    assert project.stale_jobs() == {}


def test_a_touch_reruns_nothing_and_other_content_everything(project):
    path = project.folder / "data/mine/images.npy"
    path.touch()
    assert project.stale_jobs() == project.stale_jobs(*MTIME) == {}
    before = path.read_bytes()
    write_with_its_old_time(path, before[:-1] + bytes([before[-1] ^ 1]))
    for flags in ((), MTIME):
        stale = project.stale_jobs(*flags)
        assert {"read_embeddings", "split", "baselines", "evaluate"} <= set(stale)
    write_with_its_old_time(path, before)
    assert project.stale_jobs() == {}


def test_the_folder_of_the_files_may_move(project):
    shutil.move(project.folder / "data/mine", project.folder / "elsewhere")
    moved = "datasets={mine: {images: elsewhere/images.npy, texts: elsewhere/texts.npz, metadata: elsewhere/pairs.csv}}"
    try:
        assert project.stale_jobs("--config", moved) == {}
    finally:
        shutil.move(project.folder / "elsewhere", project.folder / "data/mine")


def test_a_missing_file_is_named_before_any_job(project):
    done = project.run("snakemake", "--cores", "1", "-n", "--config", "datasets={mine: {texts: data/mine/gone.npy}}")
    assert done.returncode != 0
    assert "data/mine/gone.npy not found: check `texts` of the data set" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_files_of_ones_own_in_the_place_of_the_default_form_are_kept(project):
    place = project.folder / "results/mine/embeddings"
    place.rename(place.with_name("read"))
    write_set(place, *related_embeddings(10, 1)[:2], {"image_ids": list(range(10))})
    try:
        done = project.run("snakemake", "--cores", "1", "-F")
        assert done.returncode != 0
        assert "which read_embeddings has not written and would replace" in done.stdout + done.stderr
        assert len(list(place.iterdir())) == 3
    finally:
        shutil.rmtree(place)
        place.with_name("read").rename(place)


def test_make_clean_empties_what_was_read_and_keeps_embeddings_of_ones_own(project, tmp_path):
    shutil.copytree(project.folder / "results", tmp_path / "results", symlinks=True)
    clean = ["make", "--silent", "-f", str(ROOT / "Makefile"), "clean"]
    own = tmp_path / "results/own/train2017_image_embeddings.pt"
    own.parent.mkdir()
    own.touch()
    done = subprocess.run(clean, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout.splitlines() == ["results/own/train2017_image_embeddings.pt"]
    own.rename(own.with_name("set2017_image_embeddings.pt"))
    (own.parent / "made_by_encode_evaluation_set.json").touch()
    subprocess.run(clean, cwd=tmp_path, check=True, capture_output=True)
    assert not list((tmp_path / "results").iterdir())
