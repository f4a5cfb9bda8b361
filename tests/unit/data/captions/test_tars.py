"""Tars of img2dataset and WebDataset: captions by key, tars in natural order, pictures read where they lie."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from frozenalign.data.captions.registry import read_captions
from frozenalign.data.pictures import load_picture
from tests.unit.data.captions.writing import refusal


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            # WebDataset writes times with fractions, which puts a header of properties before every member.
            entry.size, entry.mtime = len(content), 1_700_000_000.5
            archive.addfile(entry, io.BytesIO(content))
    return path


def sample(key: str, caption: str, shade: int = 0) -> dict[str, bytes]:
    """Return what img2dataset writes for a picture."""
    described = {"key": key, "caption": caption, "url": "http://x.org/a.jpg", "status": "success", "width": 8}
    return {
        f"{key}.jpg": picture(shade),
        f"{key}.json": json.dumps(described).encode(),
        f"{key}.txt": caption.encode(),
    }


def test_pictures_and_captions_of_several_tars(tmp_path):
    write_tar(tmp_path / "00000.tar", {**sample("000000000", "zero", 10), **sample("000000001", "one", 20)})
    write_tar(tmp_path / "00001.tar", sample("000010000", "ten thousand", 30))
    (tmp_path / "00000.parquet").write_bytes(b"beside")
    (tmp_path / "00000_stats.json").write_text("{}")
    found = read_captions([tmp_path])
    assert found.image_ids == ["000000000", "000000001", "000010000"]
    assert found.caption_ids == ["000000000#0", "000000001#0", "000010000#0"]
    assert found.captions == ["zero", "one", "ten thousand"]
    assert found.image_files["000010000"] == "00001.tar/000010000.jpg"
    shades = [load_picture(tmp_path, name).getpixel((0, 0))[0] for name in found.image_files.values()]
    assert shades == [10, 20, 30]


def test_tars_named_one_by_one_are_the_same_as_their_folder(tmp_path):
    paths = [write_tar(tmp_path / "all" / f"{i}.tar", sample(f"key{i}", f"text {i}")) for i in (9, 10)]
    whole = read_captions([tmp_path / "all"])
    assert read_captions(paths) == whole
    assert read_captions(paths, pictures=tmp_path / "all") == whole
    above = read_captions([tmp_path / "all"], pictures=tmp_path)
    assert above.image_files == {"key9": "all/9.tar/key9.jpg", "key10": "all/10.tar/key10.jpg"}
    assert load_picture(tmp_path, above.image_files["key9"])


def test_tars_are_in_natural_order(tmp_path):
    for i in (10, 9, 100):
        write_tar(tmp_path / f"{i}.tar", sample("key", "x"))
    said = refusal(tmp_path)
    assert "10.tar/key.jpg: the image id 'key' is that of '10.tar/key.jpg', and of '9.tar/key.jpg' elsewhere" in said


def test_a_text_file_has_one_caption_a_line_where_no_json_has_it(tmp_path):
    files = {
        "a/1.jpg": picture(0),
        "a/1.txt": b"\xef\xbb\xbfone\r\ntwo\n",
        "a/1.json": b'{"width": 8}',
        "a/1.cls": b"7",
    }
    found = read_captions([write_tar(tmp_path / "0.tar", files)])
    assert found.caption_ids == ["a/1#0", "a/1#1"]
    assert found.captions == ["one", "two"]


def test_the_key_ends_at_the_first_dot_of_the_name(tmp_path):
    files = {"v1.0/1.jpg": picture(0), "v1.0/1.txt": b"x", "v1.0/1.seg.png": picture(0)}
    assert read_captions([write_tar(tmp_path / "0.tar", files)]).image_files == {"v1.0/1": "0.tar/v1.0/1.jpg"}


def test_a_caption_of_several_lines_in_json_is_one(tmp_path):
    assert read_captions([write_tar(tmp_path / "0.tar", sample("1", "one\ntwo"))]).captions == ["one\ntwo"]


def test_pictures_without_captions_are_left_out_and_counted(tmp_path, caplog):
    found = read_captions([write_tar(tmp_path / "0.tar", {**sample("1", "x"), "2.jpg": picture(0)})])
    assert list(found.image_files) == ["1"]
    assert "1 of 2 pictures have no caption" in caplog.text


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"2.txt": b"no picture"}, "0.tar, key 2 is of image '2', which the file does not list"),
        ({"1.png": b""}, "has '1.jpg' and '1.png': leave one of them for a key"),
        (sample("2", ""), "0.tar, key 2: the caption is empty"),
        ({"2.jpg": b"", "2.txt": b" \n"}, "0.tar, key 2: the caption is empty"),
        ({"2.jpg": b"", "2.txt": b"caf\xe9"}, "0.tar, key 2: the caption holds half a character"),
        ({"2.jpg": b"", "2.json": b'{"caption": null}'}, "0.tar, key 2: the caption is empty"),
        (
            {"2.jpg": b"", "2.json": b'{"caption": NaN}'},
            "2.json is not valid JSON ((caption: NaN is not a finite number)",
        ),
        ({"2.jpg": b"", "2.json": b"{"}, "2.json is not valid JSON (Expecting property name"),
        ({"2.jpg": b"", "2.json": b"[" * 10**6}, "2.json is not valid JSON ("),
        ({"2.jpg": b"", "2.json": b"\xff"}, "2.json is not valid JSON ('utf-8' codec"),
        ({"2.jpg": b"", "2.txt": b"x" * (2 << 20)}, "2.txt has 2097152 bytes where at most 1048576 are read"),
        ({"../2.jpg": b"", "../2.txt": b"x"}, "the file '0.tar/../2.jpg' leads out of the folder of pictures"),
    ],
    ids=lambda value: None,
)
def test_a_mistake_is_named_with_tar_and_key(tmp_path, files, said):
    assert said in refusal(write_tar(tmp_path / "0.tar", {**sample("1", "x"), **files}))


def test_a_damaged_tar_is_named(tmp_path):
    write_tar(tmp_path / "0.tar", sample("1", "x"))
    path = write_tar(tmp_path / "1.tar", sample("2", "x"))
    path.write_bytes(path.read_bytes()[:1800])
    assert f"{path} is not a complete, uncompressed tar" in refusal(tmp_path)
