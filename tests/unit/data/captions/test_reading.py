"""What holds for captions of every form: order, places of pictures, limits, and forms that nobody knows."""

import json
import os
import random
import subprocess
import sys
import time
import zipfile

import pytest

from frozenalign.configuration.registrations import caption_formats
from frozenalign.data.captions import sources
from frozenalign.data.captions.registry import CAPTION_FORMATS, read_captions
from frozenalign.data.pictures import load_picture
from frozenalign.system.errors import UserError
from tests.unit.data.captions.writing import coco, refusal, write, write_picture


def test_numbers_come_by_value_before_text(tmp_path):
    names = ["b", "10", "9", "-1", "007", "7", "a10", "a9", "9" * 30, "B", "é"]
    rows = "".join(f'{{"image": "{name}.jpg", "image_id": "{name}", "caption": "x"}}\n' for name in names)
    found = read_captions([write(tmp_path / "a.jsonl", rows)])
    assert found.image_ids == ["-1", "007", "7", "9", "10", "9" * 30, "B", "a10", "a9", "b", "é"]
    assert list(found.image_files) == found.image_ids


def test_the_order_of_a_file_decides_nothing(tmp_path):
    captions = {i: [(100 * i + k, f"{i} {k}") for k in range(5)] for i in (30, 4, 200, 1000, 17)}
    content = coco(captions)
    expected = sorted((i, number, text) for i, several in captions.items() for number, text in several)
    for seed in range(5):
        for items in (content["images"], content["annotations"]):
            random.Random(seed).shuffle(items)
        found = read_captions([write(tmp_path / "a.json", content)])
        pairs = list(zip(map(int, found.image_ids), map(int, found.caption_ids), found.captions, strict=True))
        assert pairs == expected


def test_pictures_of_train_and_val_are_found_in_their_folders(tmp_path):
    pictures = tmp_path / "images"
    for name in ("train2017/000000000001.jpg", "val2017/000000000002.jpg"):
        write_picture(pictures / name)
    files = [write(tmp_path / f"{i}.json", coco({i: [(i, "x")]})) for i in (1, 2)]
    found = read_captions(files, pictures=pictures)
    assert found.image_files == {"1": "train2017/000000000001.jpg", "2": "val2017/000000000002.jpg"}
    assert all(load_picture(pictures, name) for name in found.image_files.values())


def test_a_picture_that_two_folders_have_or_none_keeps_its_name(tmp_path):
    for name in ("a/000000000001.jpg", "b/000000000001.jpg", "000000000003.jpg", "a/000000000003.jpg"):
        write_picture(tmp_path / "images" / name)
    path = write(tmp_path / "c.json", coco({i: [(i, "x")] for i in (1, 2, 3)}))
    found = read_captions([path], pictures=tmp_path / "images").image_files
    assert found == {str(i): f"{i:012}.jpg" for i in (1, 2, 3)}


def test_an_absolute_path_into_the_folder_of_pictures_is_one_from_there(tmp_path):
    picture = write_picture(tmp_path / "images" / "a.jpg")
    path = write(tmp_path / "a.csv", f"image,image_id,caption\n{picture},1,x\n")
    assert read_captions([path], pictures=tmp_path / "images").image_files == {"1": "a.jpg"}
    assert "leads out of the folder" in refusal(path, pictures=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.bin", bytes(range(256)) * 10),
        ("a.txt", b"some text\nwithout a form\n"),
        ("a.pt", b"PK\x03\x04"),
        ("a.json", b'{"images": [{"id": 1}]}'),
        ("a.json", b'{"a dog": "a.jpg"}'),
        ("a.json", b"7"),
        ("a.txt", b""),
    ],
)
def test_an_unknown_form_is_one_sentence_that_names_the_known_ones(tmp_path, name, content):
    path = write(tmp_path / name, content)
    said = refusal(path)
    assert said.startswith(f"{path} has none of the forms in which captions are read: ")
    assert all(CAPTION_FORMATS[form].form in said for form in CAPTION_FORMATS)


def test_every_form_is_registered_once_and_read_by_one_reader(tmp_path):
    assert set(caption_formats()) == {
        "coco", "karpathy", "table", "records", "flickr-tokens", "text-files", "tars"
    }  # fmt: skip
    for content in (coco({1: [(1, "x")]}), [{"image": "a.jpg", "caption": "x"}]):
        source = sources.CaptionSource(write(tmp_path / "a.json", content))
        assert sum(CAPTION_FORMATS[form].recognises(source) for form in CAPTION_FORMATS) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"images": NaN}', b"\xff\xfe{"])
def test_what_is_no_json_is_said(tmp_path, content):
    assert "a.json" in refusal(write(tmp_path / "a.json", content))


def test_what_is_no_file_is_said(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    assert "not found: set `captions` to a file" in refusal(tmp_path / "missing.json")
    assert "is a pipe or a device where a file is needed" in refusal(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="no captions: name at least one"):
        read_captions([])


def test_a_compressed_file_is_no_form(tmp_path):
    with zipfile.ZipFile(tmp_path / "annotations.zip", "w") as archive:
        archive.writestr("captions.json", "{}")
    assert "has none of the forms" in refusal(tmp_path / "annotations.zip")


@pytest.mark.parametrize(("name", "limit"), [("a.json", "DOCUMENT_BYTES"), ("a.jsonl", "LINES_BYTES")])
def test_a_file_beyond_the_limit_is_refused_unread(tmp_path, name, limit):
    size = getattr(sources, limit) + 1
    with (tmp_path / name).open("wb") as stream:
        stream.write(b"[")
        stream.truncate(size)
    began = time.perf_counter()
    assert f"has {size} bytes where at most {size - 1} are read" in refusal(tmp_path / name)
    assert time.perf_counter() - began < 5


READ = """
import re, sys, time
from pathlib import Path
from frozenalign.data.captions.registry import read_captions
began = time.process_time()
found = read_captions([Path(sys.argv[1])])
seconds = time.process_time() - began
print(len(found.captions), seconds, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_tenth_of_coco_takes_a_second_and_little_memory(tmp_path, form):
    captions = {i: [(10 * i + k, f"A man rides a horse number {k} of {i}.") for k in range(5)] for i in range(11_829)}
    path = write(tmp_path / "a.json", json.dumps(coco(captions)))
    if form == "csv":
        rows = "".join(f"{i}.jpg,{text}\n" for i, several in captions.items() for _, text in several)
        path = write(tmp_path / "a.csv", f"image,caption\n{rows}")
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True)
    count, seconds, kilobytes = map(float, done.stdout.split())
    assert count == 59_145
    assert seconds < 3
    assert kilobytes < 250_000
