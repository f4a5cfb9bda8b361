"""A text file beside each picture, or in a folder of its own."""

import os

import pytest

from frozenalign.data.captions.registry import read_captions
from frozenalign.data.pictures import load_picture
from tests.unit.data.captions.writing import refusal, write, write_picture


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    for name in ("10.jpg", "9.PNG", "below/a.jpeg", "alone.jpg"):
        # Pillow takes the format from the ending.
        write_picture(folder / name)
    write(folder / "10.txt", "first\r\n\r\nsecond\r\n")
    write(folder / "9.txt", "\ufeffnine \u2028 nine")
    write(folder / "below/a.txt", "below\n")
    return folder


def test_each_line_of_a_text_file_is_a_caption_of_the_picture_beside_it(folder, caplog):
    found = read_captions([folder])
    assert found.image_ids == ["9", "10", "10", "below/a"]
    assert found.caption_ids == ["9#0", "10#0", "10#1", "below/a#0"]
    assert found.captions == ["nine \u2028 nine", "first", "second", "below"]
    assert found.image_files == {"9": "9.PNG", "10": "10.jpg", "below/a": "below/a.jpeg"}
    assert all(load_picture(folder, name).size == (8, 8) for name in found.image_files.values())
    assert "1 of 4 pictures have no caption" in caplog.text


def test_text_files_may_lie_in_a_folder_of_their_own(folder, tmp_path):
    beside = read_captions([folder])
    for name in ("10.txt", "9.txt", "below/a.txt"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(tmp_path / "texts" / name)
    assert read_captions([tmp_path / "texts"], pictures=folder) == beside
    assert "3 text files have no picture of their name" in refusal(tmp_path / "texts")


def test_a_text_file_without_a_picture_is_named(folder):
    write(folder / "README.txt", "about")
    assert "1 text files have no picture of their name" in refusal(folder)
    assert "'README.txt'" in refusal(folder)


def test_two_pictures_of_one_text_file_are_named(folder):
    write_picture(folder / "10.png")
    assert "has '10.jpg' and '10.png': leave one picture a text file" in refusal(folder)


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_text_file_without_a_caption_is_named(folder, content):
    write(folder / "10.txt", content)
    assert f"{folder}: 10.txt, line 1: the caption is empty" in refusal(folder)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "is outside"),
        (os.mkfifo, "is not a regular file: replace it by a text file"),
        (lambda path: path.write_bytes(b"caf\xe9"), "is not UTF-8 text"),
        (lambda path: path.write_bytes(b"x" * (2 << 20)), "has 2097152 bytes where at most 1048576 are read"),
    ],
    ids=["link out", "pipe", "Latin-1", "large"],
)
def test_what_is_no_text_file_is_named(folder, make, said):
    (folder / "10.txt").unlink()
    make(folder / "10.txt")
    assert f"10.txt {said}" in refusal(folder).replace(f"{folder}: ", "").replace(f"{folder}/", "")


def test_an_empty_folder_is_refused(tmp_path):
    assert "has neither text files nor tars" in refusal(tmp_path)
