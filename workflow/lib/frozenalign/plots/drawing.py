"""Draw pictures that are missing, or whose data have changed."""

import os
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from frozenalign.system.files import save_figure
from frozenalign.system.refusals import refusals_explained

DRAWN_FROM = "Source"


def draw(path: Path, drawn_from: str, figure: Callable[[], Figure]) -> bool:
    """Write a picture as PNG and return True, or return False if the existing one was drawn from the same data.

    drawn_from: a hash of everything that decides the picture, stored in the file.
    """
    if _source_of(path) == drawn_from:
        with refusals_explained(path):
            os.utime(path)
        return False
    save_figure(path, figure(), {DRAWN_FROM: drawn_from})
    return True


def _source_of(path: Path) -> str | None:
    try:
        with Image.open(path) as picture:
            return picture.info.get(DRAWN_FROM)
    except (OSError, SyntaxError, ValueError):
        return None
