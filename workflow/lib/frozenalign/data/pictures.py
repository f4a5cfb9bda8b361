"""Pictures of a folder, opened and converted to RGB."""

from pathlib import Path

from PIL import Image, ImageOps


class UnreadablePicture(Exception):  # noqa: N818
    """A picture that cannot be decoded; the message is the reason in a few words."""


def load_picture(folder: Path, name: str) -> Image.Image:
    """Return a picture below a folder, upright and in RGB."""
    try:
        with Image.open(folder / name) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except Exception as error:
        raise UnreadablePicture(str(error)) from error
