"""The witness of a user's files is rewritten if a result was made from other files, and left alone if not."""

import json
import os
from typing import Any

import pytest

from frozenalign.data.given_files import made_from_others, pairs_hash, present_hashes, split_as_one, write_witness
from frozenalign.system.files import text_hash

PRESENT = {"train2017_metadata.json": "a", "val2017_metadata.json": None}


def test_files_are_present_with_their_hash_or_not_at_all(tmp_path):
    (tmp_path / "here").write_text("text")
    assert present_hashes([tmp_path / "here", tmp_path / "gone"]) == {"here": text_hash("text"), "gone": None}


@pytest.mark.parametrize(
    ("noted", "others"),
    [
        ({"train2017_metadata.json": "a"}, False),
        ({"train2017_metadata.json": "b"}, True),
        ({"train2017_metadata.json": "a", "val2017_metadata.json": "c"}, True),
        ({"train2017_metadata.json": "a", "best_model.pt": "c"}, False),
        ({"best_model.pt": "c"}, False),
        ({}, False),
        (["a"], False),
        (None, False),
    ],
)
def test_a_result_is_held_against_the_files_by_what_it_notes(tmp_path, noted, others):
    (tmp_path / "result.json").write_text(json.dumps({"inputs": noted}))
    assert made_from_others(tmp_path / "result.json", "inputs", PRESENT) is others


def test_a_set_that_has_come_since_counts(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"inputs": {"train2017_metadata.json": "a"}}))
    assert made_from_others(tmp_path / "result.json", "inputs", PRESENT | {"val2017_metadata.json": "c"})


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", '{"hashes": {}}'])
def test_a_result_that_says_nothing_counts_as_made_from_these_files(tmp_path, text):
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    assert not made_from_others(tmp_path / "result.json", "inputs", PRESENT)


def test_a_witness_is_written_only_where_it_has_something_to_say(tmp_path):
    path = tmp_path / "inputs" / "hashes.json"
    assert write_witness(path, PRESENT, anew=False)
    os.utime(path, (0, 0))
    before = path.read_bytes()
    assert write_witness(path, PRESENT, anew=False)
    assert (path.read_bytes(), path.stat().st_mtime) == (before, 0)
    assert write_witness(path, PRESENT, anew=True)
    assert path.read_bytes() != before
    assert path.stat().st_mtime > 0
    assert write_witness(path, PRESENT | {"train2017_metadata.json": "b"}, anew=False)
    assert json.loads(path.read_text())["files"]["train2017_metadata.json"] == "b"


@pytest.mark.parametrize("damage", ["", "[]", '{"files": 3}'])
def test_a_damaged_witness_is_written_again(tmp_path, damage):
    path = tmp_path / "hashes.json"
    path.write_text(damage)
    assert write_witness(path, PRESENT, anew=False)
    assert json.loads(path.read_text())["files"] == PRESENT


def test_where_nothing_can_be_written_there_is_no_witness(tmp_path):
    (tmp_path / "inputs").write_text("a file in place of the folder")
    assert not write_witness(tmp_path / "inputs" / "hashes.json", PRESENT, anew=True)


def test_pairs_are_known_by_the_ids_of_the_rows_alone(tmp_path):
    path, known = tmp_path / "train2017_metadata.json", tmp_path / "known.json"

    def hashed(**metadata: Any) -> str:
        path.write_text(json.dumps(metadata))
        return pairs_hash(path, known)

    plain = hashed(image_ids=[1, 1, 2])
    assert hashed(image_ids=["1", "1", "2"], captions=["a", "b", "c"], image_files={"1": "1.jpg"}) == plain
    others = [
        hashed(image_ids=[1, 2, 2]),
        hashed(image_ids=[11, 2]),
        hashed(image_ids=[1, 1, 2], unique_image_ids=[1, 2]),
        hashed(image_ids=[1, 1, 2], unique_image_ids=[2, 1]),
    ]
    assert len({plain, *others}) == 5


def test_the_pairs_of_a_file_are_read_once(tmp_path, monkeypatch):
    path, known = tmp_path / "train2017_metadata.json", tmp_path / "known.json"
    path.write_text(json.dumps({"image_ids": [1, 2]}))
    first = pairs_hash(path, known)
    monkeypatch.setattr("frozenalign.data.given_files.pairs_digest", lambda *_: pytest.fail("read again"))
    assert pairs_hash(path, known) == first


@pytest.mark.parametrize(
    "text", [None, "", "[]", "{}", '{"image_ids": 3}', '{"image_ids": [1], "unique_image_ids": 2}']
)
def test_metadata_that_the_split_will_refuse_have_no_pairs(tmp_path, text):
    path = tmp_path / "train2017_metadata.json"
    if text is not None:
        path.write_text(text)
    assert pairs_hash(path, tmp_path / "known.json") == "unreadable"


def test_sets_are_split_as_one_where_assignments_name_images_of_both(tmp_path, monkeypatch):
    known, paths = tmp_path / "known.json", [tmp_path / name for name in ("assigned.json", "first.json", "second.json")]

    def as_one(*contents: object) -> bool:
        for path, content in zip(paths, contents, strict=True):
            path.write_text(json.dumps(content))
        return split_as_one(*paths, known)

    first, second = {"image_ids": [1, 1, 2]}, {"image_ids": [2, 3]}
    assert as_one({"1": "train", "3": "val"}, first, second)
    assert not as_one({"1": "train", "2": "val"}, first, second)
    assert not as_one({"1": "train", "3": "val"}, first, {"image_ids": [2, 4]})
    assert not as_one({"1": "train", "3": "wrong"}, first, second)
    assert not as_one({"1": "train", "3": "val"}, {}, second)
    assert as_one({"1": "train", "3": "val", "9": "unused"}, first, second)
    monkeypatch.setattr("frozenalign.data.given_files.Assignments", None)
    assert split_as_one(*paths, known)
