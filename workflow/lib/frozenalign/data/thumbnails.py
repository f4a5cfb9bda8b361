"""Small versions of pictures: upright, as JPEG, of nothing outside their folder."""

import base64
import io
import warnings
from pathlib import Path

from PIL import Image

from frozenalign.data.picture_files import (
    FORMATS,
    LARGEST_PIXELS,
    NO_PERMISSION,
    TOO_LARGE,
    UNDECODABLE,
    UnreadablePicture,
)
from frozenalign.data.pictures import as_rgb, exif_orientation, upright

QUALITY = 85


def small_version(source: Path | io.BytesIO, pixels: int) -> bytes:
    """Return a picture as JPEG, at most `pixels` wide and high, or raise UnreadablePicture."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(source, formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                raise Image.DecompressionBombError
            picture.draft("RGB", (pixels, pixels))
            small = upright(as_rgb(picture), exif_orientation(picture))
            small.thumbnail((pixels, pixels))
            content = io.BytesIO()
            small.save(content, "JPEG", quality=QUALITY)
            return content.getvalue()
    except Image.DecompressionBombError as error:
        raise UnreadablePicture(TOO_LARGE) from error
    except PermissionError as error:
        raise UnreadablePicture(NO_PERMISSION) from error
    except Exception as error:
        # Damaged pictures make Pillow raise almost any exception.
        raise UnreadablePicture(UNDECODABLE) from error


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture's bytes as a data URI; kind: png, jpeg or svg+xml."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
