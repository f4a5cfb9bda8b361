"""Pictures as RGB, upright: opened from a folder or a tar inside it, or refused with a reason, never made up."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

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
    source = picture_source(folder, name)
    # A library that was imported may have asked Pillow to fill up what is missing.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(source, formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                raise UnreadablePicture(TOO_LARGE)
            picture.load()
            return upright(as_rgb(picture), exif_orientation(picture))
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
        reason = "cut off" if "truncated" in str(error) else f"damaged ({one_line(str(error))})"
        raise UnreadablePicture(reason) from error


def picture_source(folder: Path, name: str, starts: Sequence[Path] = ()) -> Path | io.BytesIO:
    """Return the file of a picture, or the content of a member of a tar; an empty one is refused.

    starts: folders that the name may start from, `folder` alone by default.
    """
    archive = _archive(folder, name, starts)
    if archive is None:
        path = file_inside(folder, name, starts)
        size = path.stat().st_size
        source: Path | io.BytesIO = path
    else:
        source = io.BytesIO(_member(archive, parted(name)[1]))
        size = source.getbuffer().nbytes
    if not size:
        raise UnreadablePicture("empty")
    return source


def _archive(folder: Path, name: str, starts: Sequence[Path]) -> Path | None:
    """Return the tar that a name leads into, None if it does not."""
    path, member = parted(name)
    if not member:
        return None
    try:
        return file_inside(folder, path, starts)
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


def exif_orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation of an open picture, 1 where it has none: damaged data do not make it unreadable."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1
