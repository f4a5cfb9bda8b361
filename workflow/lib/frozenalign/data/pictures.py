"""Pictures as RGB, upright: opened from a folder or a tar inside it, or refused with a reason, never made up."""

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from frozenalign.data.picture_files import (
    FORMATS,
    LARGEST_PIXELS,
    NO_PERMISSION,
    TOO_LARGE,
    UNDECODABLE,
    UnreadablePicture,
    file_inside,
)
from frozenalign.data.tar_members import members, parted, read_members
from frozenalign.system.errors import UserError, is_out_of_memory, one_line

__all__ = ["UnreadablePicture", "load_picture"]
ORIENTATION = 0x0112
TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WITH_ALPHA = ("LA", "PA", "RGBA")
LARGEST_MEMBER = 512 << 20
# The largest 16-bit value, 65,535, becomes 255.
SIXTEEN_TO_EIGHT_BITS = 1 / 257


def load_picture(folder: Path, name: str) -> Image.Image:
    """Return a picture below `folder` in RGB and upright, or raise UnreadablePicture.

    name: its path from the folder, or that of a tar and the name of a member, as in `00000.tar/000000001.jpg`.
    Transparent parts become white, of an animation the first frame is taken, and colour profiles are ignored.
    """
    archive = _archive(folder, name)
    if archive is None:
        path = file_inside(folder, name)
        return _decoded(path, not path.stat().st_size)
    content = _member(archive, parted(name)[1])
    return _decoded(io.BytesIO(content), not content)


def _archive(folder: Path, name: str) -> Path | None:
    """Return the tar that a name leads into, None if it does not."""
    path, member = parted(name)
    if not member:
        return None
    try:
        return file_inside(folder, path)
    except UnreadablePicture:
        # A folder may be called like a tar.
        return None


def _member(archive: Path, name: str) -> bytes:
    try:
        if name not in members(archive):
            raise UnreadablePicture(f"not in {archive.name}")
        return next(read_members(archive, [name], LARGEST_MEMBER))
    except UserError as error:
        raise UnreadablePicture(str(error)) from error
    except OSError as error:
        raise UnreadablePicture(f"not readable ({error.strerror})") from error


def _decoded(source: Path | io.BytesIO, empty: bool) -> Image.Image:
    if empty:
        raise UnreadablePicture("empty")
    try:
        with Image.open(source, formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                raise UnreadablePicture(TOO_LARGE)
            if not picture.width * picture.height:
                raise UnreadablePicture("without pixels")
            picture.load()
            return upright(as_rgb(picture), _orientation(picture))
    except UnreadablePicture:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadablePicture(TOO_LARGE) from error
    except PermissionError as error:
        raise UnreadablePicture(NO_PERMISSION) from error
    except UnidentifiedImageError as error:
        raise UnreadablePicture(UNDECODABLE) from error
    except Exception as error:
        # Damaged pictures make Pillow raise almost any exception.
        if is_out_of_memory(error):
            raise
        raise UnreadablePicture(f"damaged ({one_line(str(error))})") from error


def as_rgb(picture: Image.Image) -> Image.Image:
    """Return a picture of any mode in RGB, transparent parts white, 16 bits scaled to 8."""
    if picture.mode.startswith("I"):
        eight_bits = picture.convert("I").point(lambda value: value * SIXTEEN_TO_EIGHT_BITS + 0.5)
        return eight_bits.convert("L").convert("RGB")
    if picture.mode == "F":
        raise UnreadablePicture("of floating-point values, whose range is unknown")
    if picture.mode in WITH_ALPHA or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    """Return a picture turned as its EXIF orientation asks; 1 and unknown numbers leave it as it is."""
    method = TO_UPRIGHT.get(orientation)
    return picture if method is None else picture.transpose(method)


def _orientation(picture: Image.Image) -> int:
    return _without_fault(lambda: int(picture.getexif().get(ORIENTATION, 1)))


def _without_fault(read: Callable[[], int]) -> int:
    """Return what is read from EXIF data, or 1: damaged ones do not make the picture unreadable."""
    try:
        return read()
    except Exception:
        return 1
