"""Files known by what they hold, not by when they were written: clocks differ, and copies keep old times."""

import contextlib
import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from workflow.lib.errors import UserError
from workflow.lib.files import file_hash, read_json, write_json
from workflow.lib.sources import import_closure

logger = logging.getLogger(__name__)

# Files from this size on are read once and then known by their size and times until those change.
LARGE_BYTES = 10_000_000
SLOW_BYTES = 1_000_000_000


def code_hash(script: Path) -> str:
    """Return the SHA-256 of a script in `workflow/scripts` and of every module that it imports."""
    return content_hash(import_closure(script, script.parents[2]))


def content_hash(paths: Iterable[str | Path], known: Path | None = None) -> str:
    """Return one SHA-256 of the content of files, in their order; a missing one counts as such.

    known: a JSON file that remembers the hashes of large files; it is made and renewed here.
    """
    digest = hashlib.sha256()
    for path in map(Path, paths):
        digest.update(_hash(path, known).encode())
    return digest.hexdigest()


def file_stamp(status: os.stat_result) -> tuple[int, ...]:
    """Return what cannot all stay as it is when a file is written anew, copied or replaced: size, times and inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _hash(path: Path, known: Path | None) -> str:
    try:
        status = path.stat()
    except OSError:
        return "missing"
    stamp = file_stamp(status)
    if known is None or status.st_size < LARGE_BYTES:
        return _hash_now(path, stamp)
    return _remembered(path, stamp, known, str(path.absolute()), lambda: _hash_now(path, stamp))


@functools.cache
def _hash_now(path: Path, stamp: tuple[int, ...]) -> str:
    return file_hash(path)


def _remembered(path: Path, stamp: tuple[int, ...], known: Path, name: str, compute: Callable[[], str]) -> str:
    """Return the hash that `known` has under a name of a file with this stamp, or compute it and note it there."""
    remembered = _read(known)
    entry = remembered.get(name)
    if isinstance(entry, dict) and entry.get("stamp") == list(stamp) and isinstance(entry.get("sha256"), str):
        return entry["sha256"]
    if stamp[0] >= SLOW_BYTES:
        logger.warning("%s is new or was written anew: reading its %.1f GB once", path, stamp[0] / 1e9)
    entry = {"stamp": list(stamp), "sha256": compute()}
    # Where nothing can be written, the file is read again the next time.
    with contextlib.suppress(UserError, OSError):
        write_json(known, remembered | {name: entry})
    return entry["sha256"]


def _read(known: Path) -> dict:
    try:
        content = read_json(known)
    except (UserError, OSError):
        return {}
    return content if isinstance(content, dict) else {}


def remembered_hash(path: Path, known: Path | None) -> str:
    """Return the SHA-256 of a file, without reading a large one that `known` remembers; "missing" of a missing one."""
    return _hash(path, known)


def remembered_part(path: Path, part: str, known: Path, compute: Callable[[], str]) -> str:
    """Return a hash of a part of a file, computed only where `known` does not remember it of the file as it is."""
    stamp = file_stamp(path.stat())
    return _remembered(path, stamp, known, f"{path.absolute()} ({part})", compute)


def remember_hashes(hashes: dict[Path, str], known: Path) -> None:
    """Note the SHA-256 of files that were just read in `known`, as `remembered_hash` looks them up."""
    entries = {}
    for path, sha256 in hashes.items():
        entries[str(path.absolute())] = {"stamp": list(file_stamp(path.stat())), "sha256": sha256}
    with contextlib.suppress(UserError, OSError):
        write_json(known, _read(known) | entries)
