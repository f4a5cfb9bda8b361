"""Pictures as text that a page can hold, none from outside their folder, and what is said of those not shown."""

import base64
import io
import os
import stat
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from frozenalign.system.errors import one_line

THUMBNAIL_PIXELS = 192
PALETTE_COLORS = 128
# Formats that are decoded here and now: of others, Pillow starts a program (EPS) or reads further files.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
LARGEST_PIXELS = 80_000_000
# Why a picture is not shown, as the words after a number.
NO_ENTRY = "without an entry in `image_files`"
NO_FILE = "not a regular file"
NO_PERMISSION = "without permission to read"
TOO_LARGE = f"of more than {LARGEST_PIXELS:,} pixels"
UNDECODABLE = f"not readable as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


@dataclass(frozen=True)
class Thumbnail:
    """A small picture as a data URI, or why there is none: a reason, as words after a number, and what it is about."""

    uri: str | None
    reason: str = ""
    about: str = ""


class _NotShownError(Exception):
    """The reason why a picture is not shown, and what a reader needs to know besides its name."""

    def __init__(self, reason: str, more: str = "") -> None:
        super().__init__(reason)
        self.reason, self.more = reason, more


def embedded_plot(path: Path) -> str | None:
    """Return a plot as a data URI, its colours reduced to a palette: a quarter of the size, no visible change.

    Return None where the plot has not been drawn.
    """
    if not path.exists():
        return None
    with Image.open(path) as picture:
        return _with_palette(picture)


def embedded_figure(figure: Figure) -> str:
    """Return a matplotlib figure as a data URI."""
    content = io.BytesIO()
    figure.savefig(content, dpi=150)
    with Image.open(content) as picture:
        return _with_palette(picture)


def thumbnail(folder: Path, name: str, start: Path | None = None) -> Thumbnail:
    """Return a small version of a picture whose file stands inside `folder`, or why it is not shown.

    name: its path from `folder`, or from `start`, where a link may lead into `folder`.
    """
    try:
        return Thumbnail(_small_version(_file_inside(folder, name, [folder, start or folder])))
    except _NotShownError as missing:
        return Thumbnail(None, missing.reason, f"{one_line(name)}{missing.more}")


def not_shown(pictures: Sequence[Thumbnail]) -> str:
    """Say in one sentence how many of the pictures are not shown, and of each reason how many and the first."""
    missing = [picture for picture in pictures if picture.uri is None]
    if not missing:
        return ""
    first = {picture.reason: picture.about for picture in reversed(missing)}
    counts = Counter(picture.reason for picture in missing).most_common()
    reasons = ", ".join(f"{count} {reason} (first: {first[reason]})" for reason, count in counts)
    return f"{len(missing)} of {len(pictures)} pictures {'is' if len(missing) == 1 else 'are'} not shown: {reasons}"


def _file_inside(folder: Path, name: str, starts: Sequence[Path]) -> Path:
    """Return the file that a name means from the first start that has it, if it stands inside `folder`."""
    try:
        # A path with backslashes was written on Windows, if no file is called so. Its bytes are UTF-8 in every locale.
        spellings = [os.fsdecode(spelled.encode()) for spelled in (name, name.replace("\\", "/"))]
        paths = [start / spelled for spelled in spellings for start in starts]
        path = next(filter(os.path.exists, paths), paths[0]).resolve()
        inside = path.is_relative_to(folder.resolve())
        regular = inside and stat.S_ISREG(path.stat().st_mode)
    except PermissionError as error:
        raise _NotShownError(NO_PERMISSION) from error
    except (OSError, ValueError, RuntimeError) as error:
        # Impossible names and links in a circle are not found either.
        remedy = "name the folder that the paths start from as `pictures` of the data set"
        raise _NotShownError(f"not found in {folder}", f"; {remedy}") from error
    if not inside:
        where = one_line(str(path))
        remedy = "name the folder of the pictures as `pictures` of the data set"
        raise _NotShownError(f"outside {folder}", f", which leads to {where}; {remedy}")
    if not regular:
        raise _NotShownError(NO_FILE)
    return path


def _small_version(path: Path) -> str:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                raise _NotShownError(TOO_LARGE)
            picture.draft("RGB", (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            small = picture.convert("RGB")
            small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            return _data_uri(small, "JPEG")
    except _NotShownError:
        raise
    except Image.DecompressionBombError as error:
        raise _NotShownError(TOO_LARGE) from error
    except PermissionError as error:
        raise _NotShownError(NO_PERMISSION) from error
    except Exception as error:
        # Of a damaged picture Pillow raises almost anything.
        raise _NotShownError(UNDECODABLE) from error


def _with_palette(picture: Image.Image) -> str:
    reduced = picture.convert("RGB").quantize(PALETTE_COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    return _data_uri(reduced, "PNG")


def _data_uri(picture: Image.Image, kind: str) -> str:
    content = io.BytesIO()
    picture.save(content, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
