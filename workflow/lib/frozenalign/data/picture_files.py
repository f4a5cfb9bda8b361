"""Where a picture lies: a regular file inside its folder, whatever a data file calls it."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

# For other formats Pillow may start a program (EPS) or read further files.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
# Endings of the names of pictures, where pictures are told from other files.
SUFFIXES = ("jpg", "jpeg", "png", "gif", "bmp", "webp")
LARGEST_PIXELS = 80_000_000
# Reasons why a picture is not shown or encoded, to follow its name or a number.
NO_PERMISSION = "without permission to read"
NOT_REGULAR = "not a regular file"
TOO_LARGE = f"of more than {LARGEST_PIXELS:,} pixels"
UNDECODABLE = f"not readable as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


class UnreadablePicture(Exception):  # noqa: N818
    """A picture cannot be used; the message is the reason, in a few words that follow its name."""


class MissingPicture(UnreadablePicture):
    """No file of that name lies in the folder."""


class OutsidePicture(UnreadablePicture):
    """The name leads out of the folder.

    target: where it leads.
    """

    def __init__(self, reason: str, target: Path) -> None:
        super().__init__(reason)
        self.target = target


def file_inside(folder: Path, name: str, starts: Sequence[Path] = ()) -> Path:
    """Return the file of that name from the first start that has it, if it lies inside `folder`.

    starts: folders that the name may start from, `folder` alone by default.
    """
    starts = starts or (folder,)
    try:
        # Backslashes are separators of Windows, unless a file has that name. The bytes are UTF-8 in any locale.
        spellings = [os.fsdecode(spelled.encode()) for spelled in (name, name.replace("\\", "/"))]
        paths = [start / spelled for spelled in spellings for start in starts]
        path = next(filter(os.path.exists, paths), paths[0]).resolve()
        inside = path.is_relative_to(folder.resolve())
        regular = inside and stat.S_ISREG(path.stat().st_mode)
    except PermissionError as error:
        raise UnreadablePicture(NO_PERMISSION) from error
    except (OSError, ValueError, RuntimeError) as error:
        # Impossible names and circular links count as not found.
        raise MissingPicture(f"not found in {folder}") from error
    if not inside:
        raise OutsidePicture(f"outside {folder}", path)
    if not regular:
        raise UnreadablePicture(NOT_REGULAR)
    return path
