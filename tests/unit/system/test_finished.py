"""Finished results are known by fingerprint and content, put back when deleted, never taken for another step's."""

import errno
import logging
import os
from pathlib import Path

import pytest

from frozenalign.system.files import write_text
from frozenalign.system.finished import KEPT, RECORD, Finished

NAMES = ("model.pt", "below/metrics.json")
FOUND = "val RSUM 123.4"


def step(folder: Path, fingerprint: str = "these settings") -> Finished:
    return Finished(folder, NAMES, fingerprint)


def finish(folder: Path, text: str = "results") -> None:
    for name in NAMES:
        write_text(folder / name, f"{text} in {name}")
    step(folder).keep(FOUND)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return inode and bytes of every output."""
    return {name: ((folder / name).stat().st_ino, (folder / name).read_bytes()) for name in NAMES}


def test_nothing_is_finished_before_everything_is_written_and_recorded(tmp_path):
    assert step(tmp_path).again() is None
    for name in NAMES:
        write_text(tmp_path / name, name)
        assert step(tmp_path).again() is None
    step(tmp_path).keep(FOUND)
    assert step(tmp_path).again() == FOUND


def test_finished_files_stay_as_they_are(tmp_path):
    finish(tmp_path)
    before = files(tmp_path)
    assert step(tmp_path).again() == FOUND
    assert files(tmp_path) == before


def test_another_fingerprint_is_another_step(tmp_path):
    finish(tmp_path)
    assert step(tmp_path, "other settings").again() is None
    assert step(tmp_path).again() == FOUND


@pytest.mark.parametrize("lost", [NAMES[:1], NAMES[1:], NAMES], ids=" ".join)
def test_deleted_files_are_the_same_files_again(lost, tmp_path):
    finish(tmp_path)
    before = files(tmp_path)
    for name in lost:
        (tmp_path / name).unlink()
    assert step(tmp_path).again() == FOUND
    assert files(tmp_path) == before


def test_a_file_that_another_has_replaced_is_put_back(tmp_path):
    finish(tmp_path)
    before = files(tmp_path)
    write_text(tmp_path / NAMES[0], "something else")
    assert step(tmp_path).again() == FOUND
    assert files(tmp_path) == before


def test_a_file_damaged_in_place_has_to_be_made_again(tmp_path):
    finish(tmp_path)
    with (tmp_path / NAMES[0]).open("r+") as stream:
        stream.write("damage")
    assert step(tmp_path).again() is None
    finish(tmp_path)
    assert step(tmp_path).again() == FOUND


def test_results_of_a_later_step_are_not_taken_for_those_of_the_recorded_one(tmp_path):
    """An interruption between writing results and recording them leaves the record of the step before."""
    finish(tmp_path)
    for name in NAMES:
        write_text(tmp_path / name, f"later results in {name}")
    assert step(tmp_path, "other settings").again() is None


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "{}", '{"format": 1, "fingerprint": "these settings", "files": {}, "found": ""}']
)
def test_a_damaged_record_records_nothing(damage, tmp_path):
    finish(tmp_path)
    (tmp_path / KEPT / RECORD).write_text(damage)
    assert step(tmp_path).again() is None


def test_without_hard_links_copies_are_kept(tmp_path, monkeypatch):
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    finish(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}
    (tmp_path / NAMES[0]).unlink()
    assert step(tmp_path).again() == FOUND
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == before


def test_what_cannot_be_recorded_is_a_warning(tmp_path, monkeypatch, caplog):
    def link(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr("shutil.copy2", link)
    with caplog.at_level(logging.WARNING):
        finish(tmp_path)
    assert "not recorded as finished: cannot write" in caplog.text
    assert step(tmp_path).again() is None
    assert (tmp_path / NAMES[0]).exists()
