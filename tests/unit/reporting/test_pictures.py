"""Pictures of the page: small, inside it, none from outside their folder, and a reason for each that is not shown."""

import base64
import io
import os
import struct
import tarfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from frozenalign.reporting import pictures
from frozenalign.reporting.pictures import NO_ENTRY, Thumbnail, embedded_plot, not_shown, thumbnail


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    for path in (inside / "photo.png", tmp_path / "secret.png"):
        Image.new("RGB", (800, 400), (200, 30, 30)).save(path)
    (inside / "text.png").write_text("no picture")
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    return inside


@pytest.fixture
def pool(folder) -> Path:
    """A folder of pictures elsewhere, to which a link of the data folder leads."""
    elsewhere = folder.parent / "pool"
    elsewhere.mkdir()
    Image.new("RGB", (300, 200)).save(elsewhere / "1.jpg")
    (folder / "train2017").symlink_to(elsewhere)
    return elsewhere


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def png_of(width: int, height: int) -> bytes:
    """Return a PNG that says it is of this size and ends where its first row begins."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    first_chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + first_chunk + struct.pack(">I", 100) + b"IDAT"


def test_a_thumbnail_is_small_and_keeps_its_shape(folder):
    assert opened(thumbnail(folder, "photo.png").uri).size == (192, 96)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.png", "not found in {folder}"),
        ("absent\\photo.png", "not found in {folder}"),
        ("photo.png/further.png", "not found in {folder}"),
        ("x" * 5000, "not found in {folder}"),
        ("\0", "not found in {folder}"),
        ("../secret.png", "outside {folder}"),
        ("../absent.png", "outside {folder}"),
        ("/etc/passwd", "outside {folder}"),
        ("link.png", "outside {folder}"),
        ("text.png", "not readable as JPEG, PNG, GIF, BMP or WEBP"),
        ("cut.png", "not readable as JPEG, PNG, GIF, BMP or WEBP"),
        (".", "not a regular file"),
        ("", "not a regular file"),
        ("pipe.png", "not a regular file"),
        ("circle.png", "not found in {folder}"),
        ("large.png", "of more than 80,000,000 pixels"),
        ("huge.png", "of more than 80,000,000 pixels"),
    ],
    ids=lambda value: value[:20],
)
@pytest.mark.filterwarnings("error")
def test_what_is_not_shown_has_its_reason(folder, name, reason):
    os.mkfifo(folder / "pipe.png")
    (folder / "circle.png").symlink_to("circle.png")
    for file, size in (("cut.png", 10), ("large.png", 9_500), ("huge.png", 100_000)):
        (folder / file).write_bytes(png_of(size, size))
    found = thumbnail(folder, name)
    assert (found.uri, found.reason) == (None, reason.format(folder=folder))


@pytest.mark.parametrize("place", ["stat", "open"])
def test_a_lack_of_permission_is_no_other_reason(folder, monkeypatch, place):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(*((Path, "stat") if place == "stat" else (pictures.Image, "open")), refused)
    assert thumbnail(folder, "photo.png") == Thumbnail(None, "without permission to read", "photo.png")


def test_a_picture_that_a_link_leads_out_to_says_where_it_is_and_what_to_do(folder, pool):
    said = thumbnail(folder, "train2017/1.jpg").about
    remedy = "name the folder of the pictures as `pictures` of the data set"
    assert said == f"train2017/1.jpg, which leads to {pool / '1.jpg'}; {remedy}"


@pytest.mark.parametrize("name", ["1.jpg", "train2017/1.jpg", "train2017\\1.jpg", "{pool}/1.jpg"])
def test_a_named_folder_of_pictures_takes_paths_from_it_and_links_into_it(folder, pool, name):
    assert thumbnail(pool, name.format(pool=pool), folder).uri


@pytest.mark.parametrize("name", ["photo.png", "link.png", "../secret.png"])
def test_a_named_folder_of_pictures_is_left_by_none(folder, pool, name):
    found = thumbnail(pool, name, folder)
    assert (found.uri, found.reason) == (None, f"outside {pool}")


def test_a_path_written_on_windows_is_found_unless_a_file_is_called_so(folder):
    (folder / "below").mkdir()
    Image.new("RGB", (100, 50)).save(folder / "below" / "1.png")
    assert opened(thumbnail(folder, "below\\1.png").uri).size == (100, 50)
    Image.new("RGB", (20, 20)).save(folder / "below\\1.png")
    assert opened(thumbnail(folder, "below\\1.png").uri).size == (20, 20)


def test_what_is_not_shown_is_counted_by_its_reason_the_most_frequent_first():
    shown, lost = Thumbnail("data:"), [Thumbnail(None, "not found in data/a", f"{i}.jpg") for i in range(3)]
    assert not_shown([shown, Thumbnail(None, NO_ENTRY, "image id 7"), *lost]) == (
        "4 of 5 pictures are not shown: 3 not found in data/a (first: 0.jpg), "
        "1 without an entry in `image_files` (first: image id 7)"
    )
    assert not_shown([shown, lost[2]]) == ("1 of 2 pictures is not shown: 1 not found in data/a (first: 2.jpg)")


@pytest.mark.parametrize("pictures", [[], [Thumbnail("data:")]])
def test_nothing_is_said_where_nothing_is_missing(pictures):
    assert not_shown(pictures) == ""


def test_a_strange_name_stays_on_its_line_and_short(folder):
    said = not_shown([thumbnail(folder, "a\nb\x1b[31m" + "c" * 5000)])
    assert said.isprintable()
    assert len(said) < 400


def test_a_plot_keeps_its_size_and_colours(folder):
    plot = opened(embedded_plot(folder / "photo.png")).convert("RGB")
    assert plot.size == (800, 400)
    assert max(abs(a - b) for a, b in zip(plot.getpixel((5, 5)), (200, 30, 30), strict=True)) <= 8


def test_a_picture_in_a_tar_is_shown(folder):
    with tarfile.open(folder / "00000.tar", "w") as archive:
        archive.add(folder / "photo.png", "1.png")
    assert opened(thumbnail(folder, "00000.tar/1.png").uri).size == (192, 96)
    assert thumbnail(folder, "00000.tar/2.png") == Thumbnail(None, "not in 00000.tar", "00000.tar/2.png")


def test_a_thumbnail_is_upright_and_white_where_the_picture_is_transparent(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(folder / "turned.png", exif=exif)
    small = opened(thumbnail(folder, "turned.png").uri)
    assert small.size == (20, 40)
    assert min(small.getpixel((5, 5))) > 250
