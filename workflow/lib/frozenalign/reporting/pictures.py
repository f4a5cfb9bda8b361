"""Pictures as data URIs, none from outside their folder, and a sentence about those that are not shown."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from frozenalign.data.picture_files import MissingPicture, OutsidePicture, UnreadablePicture
from frozenalign.data.pictures import picture_source
from frozenalign.data.thumbnails import data_uri, small_version
from frozenalign.plots.vector import svg
from frozenalign.system.errors import one_line

THUMBNAIL_PIXELS = 192
PALETTE_COLORS = 128
# A reason why a picture is not shown, to follow a number; others are those of the files.
NO_ENTRY = "without an entry in `image_files`"


@dataclass(frozen=True)
class Thumbnail:
    """A small picture as a data URI, or None with the reason and the name of the picture."""

    uri: str | None
    reason: str = ""
    about: str = ""


class _NotShownError(Exception):
    """A picture is not shown; arguments: the reason, and what to add to the name of the picture."""


def embedded_plot(path: Path) -> str | None:
    """Return a plot as a data URI, its colours reduced to a palette to save three quarters; None if not drawn yet."""
    if not path.exists():
        return None
    with Image.open(path) as picture:
        return _with_palette(picture)


def embedded_figure(figure: Figure) -> str:
    """Return a matplotlib figure as a data URI, as vector graphics."""
    return data_uri(svg(figure, "a figure of the report"), "svg+xml")


def thumbnail(folder: Path, name: str, start: Path | None = None) -> Thumbnail:
    """Return a small version of a picture inside `folder`, or why it is not shown.

    name: its path from `folder`, or from `start`, where a link may lead into `folder`; or that of a member of a tar.
    """
    try:
        return Thumbnail(_small_version(_source(folder, name, [folder, start or folder])))
    except _NotShownError as missing:
        reason, *more = missing.args
        return Thumbnail(None, reason, "".join([one_line(name), *more]))


def not_shown(pictures: Sequence[Thumbnail]) -> str:
    """Return one sentence on how many pictures are not shown, with number and first example of each reason."""
    missing = [picture for picture in pictures if picture.uri is None]
    if not missing:
        return ""
    first = {picture.reason: picture.about for picture in reversed(missing)}
    counts = Counter(picture.reason for picture in missing).most_common()
    reasons = ", ".join(f"{count} {reason} (first: {first[reason]})" for reason, count in counts)
    return f"{len(missing)} of {len(pictures)} pictures {'is' if len(missing) == 1 else 'are'} not shown: {reasons}"


def _source(folder: Path, name: str, starts: Sequence[Path]) -> Path | io.BytesIO:
    """Return the picture of that name from the first start that has it, if it lies inside `folder`."""
    try:
        return picture_source(folder, name, starts)
    except MissingPicture as error:
        remedy = "name the folder that the paths start from as `pictures` of the data set"
        raise _NotShownError(str(error), f"; {remedy}") from error
    except OutsidePicture as error:
        remedy = "name the folder of the pictures as `pictures` of the data set"
        raise _NotShownError(str(error), f", which leads to {one_line(str(error.target))}; {remedy}") from error
    except UnreadablePicture as error:
        raise _NotShownError(str(error)) from error


def _small_version(source: Path | io.BytesIO) -> str:
    try:
        return data_uri(small_version(source, THUMBNAIL_PIXELS), "jpeg")
    except UnreadablePicture as error:
        raise _NotShownError(str(error)) from error


def _with_palette(picture: Image.Image) -> str:
    reduced = picture.convert("RGB").quantize(PALETTE_COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    content = io.BytesIO()
    reduced.save(content, "PNG")
    return data_uri(content.getvalue(), "png")
