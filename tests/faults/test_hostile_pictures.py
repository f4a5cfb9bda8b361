"""A picture of the data folder is shown small; nothing else is opened, started or waited for."""

import io
import os
import struct
import time
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image

from frozenalign.reporting.pictures import thumbnail
from tests.faults.hostile import FILES, MARK, NAMES, write_pictures


def one_pixel(width: int, height: int) -> bytes:
    """Return a PNG that says it is of this size and holds almost nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture
def folder(tmp_path) -> Path:
    write_pictures(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("name", [*NAMES, *FILES[:-1]], ids=lambda name: repr(name)[:30])
def test_a_hostile_file_name_is_no_picture(folder, name):
    assert thumbnail(folder, name).uri is None


def test_a_data_folder_may_be_a_link_itself_and_a_link_inside_it_may_stay_inside(folder):
    (folder / "inner.png").symlink_to("photo.png")
    (folder.parent / "linked").symlink_to(folder)
    assert thumbnail(folder.parent / "linked", "photo.png").uri
    assert thumbnail(folder.parent / "linked", "inner.png").uri
    assert thumbnail(folder.parent / "linked", "link.png").uri is None


def test_links_in_a_circle_are_no_picture(folder):
    (folder / "a.png").symlink_to("b.png")
    (folder / "b.png").symlink_to("a.png")
    assert thumbnail(folder, "a.png").uri is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.png", one_pixel(100_000, 100_000)),
        ("large.png", one_pixel(10_000, 10_000)),
        ("empty.png", b""),
        ("text.png", b"no picture"),
        ("cut.png", one_pixel(10, 10)[:40]),
        ("zero.png", one_pixel(0, 0)),
        ("wrong.jpg", b"\xff\xd8\xff\xe0" + bytes(200)),
        ("vector.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
        ("page.eps", f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({MARK}) (w) file closefile\n".encode()),
    ],
)
def test_what_cannot_be_a_small_picture_ends_quickly_as_none(folder, name, content):
    (folder / name).write_bytes(content)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert thumbnail(folder, name).uri is None
    assert time.perf_counter() - began < 2
    assert not Path(MARK).exists()


def test_a_picture_that_nobody_writes_into_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    assert thumbnail(folder, "pipe.png").uri is None


def test_no_program_is_started_for_a_picture(folder, monkeypatch):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "EPS")
    (folder / "page.png").write_bytes(stream.getvalue())
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    assert thumbnail(folder, "page.png").uri is None
