"""Pictures that lie in another folder below the given one than captions say."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from frozenalign.data.tar_members import parted

logger = logging.getLogger(__name__)


def located(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Return the file of each image by the name under which it lies in the folder.

    Captions of COCO name `000000000009.jpg`, which may lie in `train2017`: a file that is not where its name says is
    taken from the one folder below that has such a file. Where none has, or several have, the name stays.
    """
    there = set(files_below(folder))
    absent = [file for file in files.values() if not _is_among(there, file)]
    if not absent:
        return dict(files)
    by_name: dict[str, list[str]] = {}
    for path in there:
        by_name.setdefault(_last_part(path), []).append(path)
    found = {file: by_name.get(_last_part(file), []) for file in absent}
    elsewhere = {file: paths[0] for file, paths in found.items() if len(paths) == 1}
    if elsewhere:
        file = next(iter(elsewhere))
        logger.info("%d pictures are taken from other folders, as %s from %s", len(elsewhere), file, elsewhere[file])
    return {image_id: elsewhere.get(file, file) for image_id, file in files.items()}


def files_below(folder: Path) -> Iterator[str]:
    """Yield the path of each file below a folder, from that folder; links to folders are not followed."""
    for place, _, names in os.walk(folder):
        below = os.path.relpath(place, folder)
        yield from names if below == "." else (f"{below}/{name}" for name in names)


def _is_among(there: set[str], file: str) -> bool:
    """Return whether a file, or the tar that holds it, is there; backslashes are separators of Windows."""
    return file in there or parted(file)[0] in there or file.replace("\\", "/") in there


def _last_part(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
