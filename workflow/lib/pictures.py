"""Pictures as text that a page can hold, and no picture from outside the data set's folder."""

import base64
import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

THUMBNAIL_PIXELS = 192
PALETTE_COLORS = 128
# Formats that are decoded here and now: of others, Pillow starts a program (EPS) or reads further files.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
LARGEST_PIXELS = 80_000_000


def embedded_plot(path: Path) -> str:
    """Return a plot as a data URI, its colours reduced to a palette: a quarter of the size, no visible change."""
    with Image.open(path) as picture:
        return _with_palette(picture)


def embedded_figure(figure: Figure) -> str:
    """Return a matplotlib figure as a data URI."""
    content = io.BytesIO()
    figure.savefig(content, dpi=150)
    with Image.open(content) as picture:
        return _with_palette(picture)


def thumbnail(folder: Path, name: str | None) -> str | None:
    """Return a small version of a picture below `folder` as a data URI; None if it is not there or not below it."""
    if not name:
        return None
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return None
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                return None
            picture.draft("RGB", (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            small = picture.convert("RGB")
            small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            return _data_uri(small, "JPEG")
    except Exception:  # of a damaged picture or an impossible name Pillow and the system raise almost anything
        return None


def _with_palette(picture: Image.Image) -> str:
    reduced = picture.convert("RGB").quantize(PALETTE_COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    return _data_uri(reduced, "PNG")


def _data_uri(picture: Image.Image, kind: str) -> str:
    content = io.BytesIO()
    picture.save(content, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
