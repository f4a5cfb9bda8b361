"""A folder of many files is known by what they hold; a file that has not been touched is not read again."""

import os
from pathlib import Path

import pytest

from frozenalign.data import folder_content
from frozenalign.data.folder_content import folder_hash
from tests.workflow.conftest import write_with_its_old_time

SUFFIXES = (".jpg", ".tar")


@pytest.fixture
def folder(tmp_path) -> Path:
    found = tmp_path / "pictures"
    for name in ("a.jpg", "b.JPG", "below/a.jpg", "notes.txt"):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_bytes(name.encode())
    return found


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The files that are read."""
    names, original = [], folder_content.file_hash

    def noted(path: Path) -> str:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(folder_content, "file_hash", noted)
    return names


def test_what_has_not_been_touched_is_not_read_again(folder, tmp_path, read):
    first = folder_hash(folder, SUFFIXES, tmp_path / "known")
    assert sorted(read) == ["a.jpg", "a.jpg", "b.JPG"]
    read.clear()
    assert folder_hash(folder, SUFFIXES, tmp_path / "known") == first
    assert read == []
    os.utime(folder / "b.JPG")
    (folder / "notes.txt").write_bytes(b"no picture")
    assert folder_hash(folder, SUFFIXES, tmp_path / "known") == first
    assert read == ["b.JPG"]


def changed(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"other")


def changed_with_its_old_time(folder: Path) -> None:
    write_with_its_old_time(folder / "a.jpg", b"A.jpg")


def added(folder: Path) -> None:
    (folder / "below/c.tar").write_bytes(b"more")


def removed(folder: Path) -> None:
    (folder / "a.jpg").unlink()


def renamed(folder: Path) -> None:
    (folder / "a.jpg").rename(folder / "c.jpg")


@pytest.mark.parametrize("change", [changed, changed_with_its_old_time, added, removed, renamed])
def test_another_content_is_another_hash(folder, tmp_path, change):
    first = folder_hash(folder, SUFFIXES, tmp_path / "known")
    change(folder)
    assert folder_hash(folder, SUFFIXES, tmp_path / "known") != first


def test_a_change_taken_back_is_the_first_hash_again(folder, tmp_path):
    first, before = folder_hash(folder, SUFFIXES, tmp_path / "known"), (folder / "a.jpg").read_bytes()
    changed(folder)
    folder_hash(folder, SUFFIXES, tmp_path / "known")
    (folder / "a.jpg").write_bytes(before)
    assert folder_hash(folder, SUFFIXES, tmp_path / "known") == first
    assert folder_hash(folder, SUFFIXES, tmp_path / "elsewhere") == first


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"a.jpg": 3, "b.JPG": [1, 2]}', '{"listing": 3}'])
def test_a_damaged_memory_is_made_anew(folder, tmp_path, damage):
    first = folder_hash(folder, SUFFIXES, tmp_path / "known")
    for name in (folder_content.CONTENT, folder_content.FILES):
        (tmp_path / "known" / name).write_text(damage)
    assert folder_hash(folder, SUFFIXES, tmp_path / "known") == first


def test_a_missing_folder_is_an_empty_one(tmp_path):
    (tmp_path / "empty").mkdir()
    empty = folder_hash(tmp_path / "empty", SUFFIXES, tmp_path / "known")
    assert folder_hash(tmp_path / "absent", SUFFIXES, tmp_path / "other") == empty
