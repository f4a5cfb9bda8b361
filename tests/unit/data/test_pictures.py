"""Pictures as RGB and upright, whatever they are called and however they are stored; or a reason, never zeros."""

import io
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from frozenalign.data import pictures
from frozenalign.data.picture_files import FORMATS, UNDECODABLE, UnreadablePicture
from frozenalign.data.pictures import as_rgb, load_picture

RED, WHITE = (200, 30, 30), (255, 255, 255)
TOO_LARGE = "of more than 80,000,000 pixels"


def filled(mode: str, color, size=(24, 16)) -> Image.Image:
    return Image.new(mode, size, color)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, rows: bytes = b"\0") -> bytes:
    """Return a PNG that says it is of this size and holds these rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sixteen_bits(value: int) -> bytes:
    return saved(Image.fromarray(np.full((16, 24), value, dtype=np.uint16)), "PNG")


def with_palette(transparent: bool) -> bytes:
    picture = filled("P", 1)
    picture.putpalette([0, 0, 0, *RED])
    return saved(picture, "PNG", **({"transparency": b"\xff\x00"} if transparent else {}))


def animated(kind: str) -> bytes:
    frames = [filled("RGB", color) for color in (RED, (0, 255, 0), (0, 0, 255))]
    return saved(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )


def cmyk(red: tuple[int, int, int], ycck: bool) -> bytes:
    """Return a CMYK JPEG as Adobe writes it, its inks inverted; with `ycck`, stored as luma and chroma."""
    inks = [255 - value for value in red]
    if ycck:
        # What is written is inverted: the decoder turns luma and chroma back into the inks.
        inks = [255 - value for value in Image.new("RGB", (1, 1), tuple(inks)).convert("YCbCr").getpixel((0, 0))]
    content = saved(filled("CMYK", (*inks, 0)), "JPEG", quality=95)
    marker = content.index(b"Adobe")
    assert content[marker + 11] == 0
    return content[: marker + 11] + (b"\2" if ycck else b"\0") + content[marker + 12 :]


def with_transparent_color(mode: str, color) -> bytes:
    return saved(filled(mode, color), "PNG", transparency=color)


READABLE: dict[str, tuple[bytes, tuple[int, int, int]]] = {
    "rgb.jpg": (saved(filled("RGB", RED), "JPEG", quality=95), RED),
    "rgb.png": (saved(filled("RGB", RED), "PNG"), RED),
    "rgb.gif": (saved(filled("RGB", RED), "GIF"), RED),
    "rgb.bmp": (saved(filled("RGB", RED), "BMP"), RED),
    "rgb.webp": (saved(filled("RGB", RED), "WEBP", lossless=True), RED),
    "png called.jpg": (saved(filled("RGB", RED), "PNG"), RED),
    "no ending": (saved(filled("RGB", RED), "JPEG", quality=95), RED),
    "grey.jpg": (saved(filled("L", 90), "JPEG"), (90, 90, 90)),
    "grey.png": (saved(filled("L", 90), "PNG"), (90, 90, 90)),
    "grey with alpha.png": (saved(filled("LA", (0, 51)), "PNG"), (204, 204, 204)),
    "black and white.png": (saved(filled("1", 1), "PNG"), WHITE),
    "palette.png": (with_palette(False), RED),
    "transparent palette.png": (with_palette(True), WHITE),
    "transparent.png": (saved(filled("RGBA", (*RED, 0)), "PNG"), WHITE),
    "half transparent.png": (saved(filled("RGBA", (0, 0, 0, 51)), "PNG"), (204, 204, 204)),
    "half transparent.webp": (saved(filled("RGBA", (0, 0, 0, 51)), "WEBP", lossless=True), (204, 204, 204)),
    "a transparent colour.png": (with_transparent_color("RGB", RED), WHITE),
    "a transparent grey.png": (with_transparent_color("L", 90), WHITE),
    "cmyk.jpg": (cmyk(RED, ycck=False), RED),
    "ycck.jpg": (cmyk(RED, ycck=True), RED),
    "16 bit black.png": (sixteen_bits(0), (0, 0, 0)),
    "16 bit dark.png": (sixteen_bits(257), (1, 1, 1)),
    "16 bit grey.png": (sixteen_bits(90 * 257), (90, 90, 90)),
    "16 bit white.png": (sixteen_bits(65535), WHITE),
    "animated.gif": (animated("GIF"), RED),
    "animated.webp": (animated("WEBP"), RED),
    "damaged exif.jpg": (saved(filled("RGB", RED), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), RED),
    "exif of nonsense.jpg": (saved(filled("RGB", RED), "JPEG", quality=95, exif=b"Exif\0\0nonsense"), RED),
}
JPEG = saved(Image.effect_noise((200, 200), 90), "JPEG")
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"no picture", UNDECODABLE),
    "zeros.jpg": (bytes(1000), UNDECODABLE),
    "page.eps": (saved(filled("RGB", RED), "EPS"), UNDECODABLE),
    "called.png": (saved(filled("RGB", RED), "TIFF"), UNDECODABLE),
    "vector.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UNDECODABLE),
    "no size.png": (png(0, 0), UNDECODABLE),
    "cut in half.jpg": (JPEG[: len(JPEG) // 2], "cut off"),
    "cut in its head.jpg": (JPEG[:40], ""),
    "cut.png": (saved(Image.effect_noise((200, 200), 90), "PNG")[:9000], "cut off"),
    "fewer rows than it says.png": (png(100, 100), "cut off"),
    "large.png": (png(9_500, 9_500), TOO_LARGE),
    "bomb.png": (png(100_000, 100_000), TOO_LARGE),
}


@pytest.mark.parametrize("name", READABLE)
def test_a_picture_of_any_mode_becomes_rgb(tmp_path, name):
    content, color = READABLE[name]
    (tmp_path / name).write_bytes(content)
    picture = load_picture(tmp_path, name)
    assert (picture.mode, picture.size) == ("RGB", (24, 16))
    assert np.abs(np.asarray(picture, dtype=int) - color).max() <= 3


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_whole_picture_has_a_reason(tmp_path, name):
    content, reason = UNREADABLE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadablePicture) as refused:
        load_picture(tmp_path, name)
    assert str(refused.value).startswith(reason)
    assert 0 < len(str(refused.value)) < 200


def test_what_is_missing_is_not_filled_up_where_a_library_asked_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    (tmp_path / "a.jpg").write_bytes(JPEG[: len(JPEG) // 2])
    with pytest.raises(UnreadablePicture, match=r"^cut off$"):
        load_picture(tmp_path, "a.jpg")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16"])
def test_white_stays_white_in_every_mode(mode):
    white = filled("RGB", "white", (2, 2)).convert("P" if mode == "PA" else "RGB")
    white = Image.new(mode, (2, 2), 65535) if mode.startswith("I") else white.convert(mode)
    assert np.asarray(as_rgb(white)).min() == 255


def test_values_of_16_bits_are_scaled_not_cut_off():
    values = np.arange(0, 65536, 13, dtype=np.uint16).reshape(1, -1)
    found = np.asarray(as_rgb(Image.fromarray(values)), dtype=float)[0, :, 0]
    assert np.abs(found - values[0].astype(float) / 65535 * 255).max() <= 0.51


def test_floating_point_values_are_refused_because_their_range_is_unknown():
    with pytest.raises(UnreadablePicture, match="range is unknown"):
        as_rgb(Image.new("F", (2, 2), 0.5))


# Where the pixel of a stored row and column belongs, as EXIF defines the eight orientations: (x, y) of a picture W x H.
PLACES: dict[int, Callable[[int, int, int, int], tuple[int, int]]] = {
    1: lambda row, column, width, height: (column, row),
    2: lambda row, column, width, height: (width - 1 - column, row),
    3: lambda row, column, width, height: (width - 1 - column, height - 1 - row),
    4: lambda row, column, width, height: (column, height - 1 - row),
    5: lambda row, column, width, height: (row, column),
    6: lambda row, column, width, height: (width - 1 - row, column),
    7: lambda row, column, width, height: (width - 1 - row, height - 1 - column),
    8: lambda row, column, width, height: (row, height - 1 - column),
}
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}}


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels (h, w, 3) that a camera stores with this orientation, pixel by pixel."""
    height, width, _ = upright.shape
    turned = orientation > 4
    content = np.zeros((width, height, 3) if turned else (height, width, 3), dtype=np.uint8)
    for row in range(content.shape[0]):
        for column in range(content.shape[1]):
            x, y = PLACES[orientation](row, column, width, height)
            content[row, column] = upright[y, x]
    return content


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("orientation", PLACES)
def test_a_picture_is_turned_upright_as_exif_asks(tmp_path, orientation, kind):
    upright = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored(upright, orientation)).save(tmp_path / "a", kind, exif=exif, **LOSSLESS[kind])
    assert np.array_equal(np.asarray(load_picture(tmp_path, "a")), upright)


@pytest.mark.parametrize("orientation", PLACES)
def test_a_jpeg_of_a_camera_is_turned_upright(tmp_path, orientation):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored(upright, orientation)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = np.asarray(load_picture(tmp_path, "a.jpg"), dtype=int)
    assert found.shape == upright.shape
    assert np.abs(found - upright).max() < 30


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_leaves_a_picture_as_it_is(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    filled("RGB", RED).save(tmp_path / "a.jpg", exif=exif)
    assert load_picture(tmp_path, "a.jpg").size == (24, 16)


@pytest.fixture
def folder(tmp_path) -> Path:
    inside = tmp_path / "pictures"
    (inside / "below").mkdir(parents=True)
    for path in (inside / "photo.png", inside / "below" / "1.png", tmp_path / "secret.png"):
        filled("RGB", RED).save(path)
    (inside / "inner.png").symlink_to("photo.png")
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    (inside / "circle.png").symlink_to("circle.png")
    os.mkfifo(inside / "pipe.png")
    return inside


@pytest.mark.parametrize("name", ["photo.png", "./photo.png", "below/1.png", "below\\1.png", "inner.png"])
def test_a_file_of_the_folder_is_read(folder, name):
    assert load_picture(folder, name).size == (24, 16)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.png", "not found in {}"),
        ("photo.png/below.png", "not found in {}"),
        ("circle.png", "not found in {}"),
        ("\0", "not found in {}"),
        ("x" * 5000, "not found in {}"),
        ("\ud800", "not found in {}"),
        ("../secret.png", "outside {}"),
        ("/etc/passwd", "outside {}"),
        ("link.png", "outside {}"),
        ("pipe.png", "not a regular file"),
        ("below", "not a regular file"),
        (".", "not a regular file"),
        ("", "not a regular file"),
        ("/dev/zero", "outside {}"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_is_no_file_of_the_folder_has_a_reason(folder, name, reason):
    with pytest.raises(UnreadablePicture) as refused:
        load_picture(folder, name)
    assert str(refused.value) == reason.format(folder)


def test_a_lack_of_permission_is_said(folder, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pictures.Image, "open", refused)
    with pytest.raises(UnreadablePicture, match=r"^without permission to read$"):
        load_picture(folder, "photo.png")


def test_a_lack_of_memory_is_no_fault_of_the_picture(folder, monkeypatch):
    def refused(*_, **__):
        raise MemoryError

    monkeypatch.setattr(pictures, "as_rgb", refused)
    with pytest.raises(MemoryError):
        load_picture(folder, "photo.png")


def test_only_formats_without_programs_and_further_files_are_opened(folder, monkeypatch):
    asked, opened = [], Image.open
    monkeypatch.setattr(pictures.Image, "open", lambda path, formats: asked.append(formats) or opened(path))
    load_picture(folder, "photo.png")
    assert asked == [FORMATS]


@pytest.fixture
def tarred(folder) -> Path:
    """A folder with a tar: pictures, a broken one, an empty one, a link; and a folder that is called like a tar."""
    with tarfile.open(folder / "00000.tar", "w") as archive:
        archive.add(folder / "photo.png", "000.png")
        archive.add(folder / "photo.png", "./train/001.png")
        for name, content in (("broken.png", b"no picture"), ("empty.png", b"")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (folder / "folder.tar").mkdir()
    filled("RGB", RED).save(folder / "folder.tar" / "1.png")
    (folder / "text.tar").write_text("no tar")
    return folder


@pytest.mark.parametrize("name", ["00000.tar/000.png", "00000.tar/train/001.png", "folder.tar/1.png"])
def test_a_member_of_a_tar_is_read(tarred, name):
    assert load_picture(tarred, name).getpixel((3, 3)) == RED


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("00000.tar/absent.png", "not in 00000.tar"),
        ("00000.tar/link.png", "not in 00000.tar"),
        ("00000.tar/../photo.png", "not in 00000.tar"),
        ("00000.tar/broken.png", UNDECODABLE),
        ("00000.tar/empty.png", "empty"),
        ("00000.tar", UNDECODABLE),
        ("00001.tar/000.png", "not found in {}"),
        ("folder.tar/2.png", "not found in {}"),
        (
            "text.tar/000.png",
            "{}/text.tar is not a complete, uncompressed tar (truncated header): copy it again",
        ),
        ("../00000.tar/000.png", "outside {}"),
    ],
)
def test_what_is_no_member_of_a_tar_has_a_reason(tarred, name, reason):
    with pytest.raises(UnreadablePicture) as refused:
        load_picture(tarred, name)
    assert str(refused.value) == reason.format(tarred)
