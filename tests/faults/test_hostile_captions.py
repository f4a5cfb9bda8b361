"""Captions and pictures of others: pairs that keep their contract, or one sentence; RGB, or a reason."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from frozenalign.data.captions.checks import CAPTION_CHARACTERS, LEADS_OUT
from frozenalign.data.captions.pairs import CaptionedPictures
from frozenalign.data.captions.registry import read_captions
from frozenalign.data.ids import ID_LENGTH
from frozenalign.data.picture_files import UnreadablePicture
from frozenalign.data.pictures import load_picture
from tests.faults.hostile import FILES
from tests.faults.property import altered, answer, cases, damaged, texts

COCO = {
    "images": [{"id": i, "file_name": f"{i}.jpg"} for i in (3, 1)],
    "annotations": [{"id": 10 * i + k, "image_id": i, "caption": f"text {k}"} for i in (1, 3) for k in range(2)],
}
KARPATHY = {
    "images": [
        {
            "cocoid": i,
            "filepath": "val2014",
            "filename": f"{i}.jpg",
            "split": "restval",
            "sentences": [{"raw": f"text {i}", "sentid": i}],
        }
        for i in (3, 1)
    ]
}
TABLE = b'image,caption,image_id\na.jpg,"one, ""two""",1\na.jpg,three,1\nb.jpg,"four\nfive",2\n'
FLICKR = b"image_name| comment_number| comment\n1.jpg| 0| one\n1.jpg| 1| two\n2.jpg| 0| three\n"
LINES = b'{"image": "a.jpg", "caption": ["one", "two"]}\n{"image": "b.jpg", "caption": ["three"]}\n'
TOKENS = b"1.jpg#0\tone\n1.jpg#1\ttwo\n2.jpg#0\tthree\n"


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for key in ("a", "b/c"):
            for ending, content in (("jpg", b"picture"), ("txt", b"one\ntwo"), ("json", b'{"width": 3}')):
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size, entry.mtime = len(content), 0.5
                archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def keeps_the_contract(found: CaptionedPictures) -> None:
    pairs = len(found.captions)
    assert pairs == len(found.image_ids) == len(found.caption_ids) > 0
    assert len(set(found.caption_ids)) == pairs
    assert list(dict.fromkeys(found.image_ids)) == list(found.image_files)
    for name in (*found.image_ids, *found.caption_ids):
        assert 0 < len(name) <= ID_LENGTH
        assert "\0" not in name
    for file in found.image_files.values():
        assert file.encode()
        assert not LEADS_OUT.match(file)
    for caption in found.captions:
        assert caption.strip().encode()
        assert len(caption) <= CAPTION_CHARACTERS


def check(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    answer(lambda: read_captions([folder / name]), name, keeps_the_contract)


@pytest.mark.parametrize("document", [COCO, KARPATHY], ids=["coco", "karpathy"])
@cases(200)
@given(st.data())
def test_one_value_of_a_document_replaced(tmp_path_factory, document, data):
    check(tmp_path_factory.getbasetemp(), "captions.json", json.dumps(data.draw(altered(document))).encode())


CONTENTS = {
    "coco.json": json.dumps(COCO).encode(),
    "karpathy.json": json.dumps(KARPATHY).encode(),
    "table.csv": TABLE,
    "flickr.csv": FLICKR,
    "table.tsv": TABLE.replace(b",", b"\t"),
    "lines.jsonl": LINES,
    "tokens.token": TOKENS,
    "pictures.tar": tar(),
}


@pytest.mark.parametrize("name", CONTENTS)
@cases(120)
@given(st.data())
def test_accidents_of_a_file_of_captions(tmp_path_factory, name, data):
    check(tmp_path_factory.getbasetemp(), name, data.draw(damaged(CONTENTS[name])))


@pytest.mark.soak
@pytest.mark.parametrize("name", CONTENTS)
@cases(3_000, derandomize=False)
@given(st.data())
def test_many_more_accidents_of_a_file_of_captions(tmp_path_factory, name, data):
    check(tmp_path_factory.getbasetemp(), name, data.draw(damaged(CONTENTS[name])))


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.csv", "captions.token", "captions.tar", "captions"])
@cases(60)
@given(st.binary(max_size=600))
def test_any_bytes(tmp_path_factory, name, content):
    check(tmp_path_factory.getbasetemp(), name, content)


@cases(100)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_any_names_and_captions(tmp_path_factory, rows):
    lines = "".join(f"{json.dumps({'image': image, 'caption': caption})}\n" for image, caption in rows)
    check(tmp_path_factory.getbasetemp(), "captions.jsonl", lines.encode())


@pytest.mark.parametrize("name", FILES[:-1], ids=ascii)
def test_a_hostile_name_leads_to_no_file(tmp_path, name):
    for inside in ("pictures", "pictures/below"):
        (tmp_path / inside).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    with pytest.raises(UnreadablePicture):
        load_picture(tmp_path / "pictures", name)


def encoded(kind: str, mode: str) -> bytes:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((40, 30), 80).convert(mode).save(stream, kind, exif=exif)
    return stream.getvalue()


PICTURES = {
    "a.jpg": encoded("JPEG", "RGB"),
    "b.jpg": encoded("JPEG", "CMYK"),
    "a.png": encoded("PNG", "RGBA"),
    "b.png": encoded("PNG", "P"),
    "a.gif": encoded("GIF", "P"),
    "a.bmp": encoded("BMP", "RGB"),
    "a.webp": encoded("WEBP", "RGBA"),
}


@pytest.mark.parametrize("name", PICTURES)
@cases(120)
@given(st.data())
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_accidents_of_a_picture(tmp_path_factory, name, data):
    folder = tmp_path_factory.getbasetemp()
    (folder / name).write_bytes(data.draw(damaged(PICTURES[name])))
    try:
        picture = load_picture(folder, name)
    except UnreadablePicture as error:
        assert str(error).isprintable()
        assert 0 < len(str(error)) < 250
    else:
        assert picture.mode == "RGB"
