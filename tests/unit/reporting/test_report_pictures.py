"""The report's retrieval examples: a picture for each image that has one, a word about those that are not shown."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from frozenalign.reporting.findings import ReportInput
from frozenalign.reporting.sections.examples import pictured_examples
from frozenalign.system.files import write_json

SHOWN = ["1003", "1004", "1005"]


@pytest.fixture
def folder(data_dir, tmp_path) -> Path:
    """A data folder with the metadata of the small set and the pictures of the images that the examples show."""
    (tmp_path / "images").mkdir()
    shutil.copy(data_dir / "train2017_metadata.json", tmp_path)
    for image_id in SHOWN:
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / f"{image_id}.png")
    return tmp_path


@pytest.fixture
def examples(folder, split_dir):
    """Return the examples of a page, given the file of every image id and what the evaluation says of `image_files`."""

    def of(files: dict[str, str | None], data_dir: Path = folder, **named: Any) -> dict[str, Any]:
        items = [{"image_id": image_id, "image_file": files[image_id], "caption": None} for image_id in SHOWN]
        found = [item | {"score": 0.5, "correct": False} for item in items]
        document = {
            "format": 2,
            "image_files": {"keys": 60, "images": 60, "first": "1000"} | named,
            "t2i": [{"query": items[0], "rank": 0, "candidates": found}] * 2,
            "i2t": [{"query": item, "rank": 0, "candidates": found[:1]} for item in items],
        }
        write_json(folder / "evaluation_results" / "examples.json", document)
        run = SimpleNamespace(folder=folder, experiment="cca", seed=0)
        source = ReportInput("small", data_dir, folder, split_dir / "manifest.json", [])
        return pictured_examples(run, source)

    return of


def pictures_of(found: dict[str, Any]) -> list[str | None]:
    candidates = [item["picture"] for example in found["t2i"] for item in example["candidates"]]
    return candidates + [example["query"]["picture"] for example in found["i2t"]]


def test_every_place_of_an_image_shows_its_picture_and_nothing_is_said(examples, caplog):
    found = examples({image_id: f"images/{image_id}.png" for image_id in SHOWN})
    assert all(picture.startswith("data:image/jpeg") for picture in pictures_of(found))
    assert (found["not_shown"], caplog.messages) == ("", [])


def test_images_count_once_however_often_they_stand_on_the_page(examples, folder, caplog):
    files = {image_id: f"images/{image_id}.png" for image_id in SHOWN} | {"1004": "absent.png"}
    found = examples(files)
    assert sum(picture is None for picture in pictures_of(found)) == 3
    assert found["not_shown"].startswith(f"1 of 3 pictures is not shown: 1 not found in {folder} (first: absent.png;")
    assert caplog.record_tuples == [("frozenalign.reporting.sections.examples", logging.WARNING, found["not_shown"])]


def test_an_image_without_an_entry_is_counted_where_others_have_one(examples):
    found = examples({image_id: f"images/{image_id}.png" for image_id in SHOWN} | {"1005": None})
    assert found["not_shown"] == (
        "1 of 3 pictures is not shown: 1 without an entry in `image_files` (first: image id 1005)"
    )


NO_FILES = dict.fromkeys(SHOWN)


def test_nothing_is_said_where_the_metadata_name_no_files(examples, caplog):
    found = examples(NO_FILES, keys=0, images=0, first=None)
    assert set(pictures_of(found)) == {None}
    assert (found["not_shown"], caplog.messages) == ("", [])


def test_keys_that_are_no_image_ids_are_held_against_one(examples):
    found = examples(NO_FILES, images=0, first="COCO_1003.jpg")
    assert found["not_shown"] == (
        "3 of 3 pictures are not shown: 3 without an entry in `image_files` (first: image id 1003; no key there is an "
        "image id, the first is COCO_1003.jpg)"
    )


def test_keys_of_other_images_are_image_ids(examples):
    found = examples(NO_FILES, images=57)
    assert found["not_shown"].endswith("3 without an entry in `image_files` (first: image id 1003)")
