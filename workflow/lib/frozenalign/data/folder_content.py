"""The content of a folder of many files, known again without reading those that have not been touched."""

import contextlib
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, read_json, text_hash, write_json
from frozenalign.system.fingerprints import SLOW_BYTES, file_stamp, fingerprint

logger = logging.getLogger(__name__)
THREADS = 8
# Of a million files; read only when a file has changed.
FILES_BYTES = 1 << 30
CONTENT, FILES = "content.json", "files.json"


def folder_hash(folder: Path, suffixes: tuple[str, ...], known: Path) -> str:
    """Return one SHA-256 of the names and the content of all files below a folder whose names end so, in lower case.

    known: a folder that remembers the hash of each file until its size, its times or its inode change; it is written
    here. A file that is gone in the meantime counts as missing.
    """
    stamps = _stamps(folder, suffixes)
    listing = fingerprint(str(folder.absolute()), sorted(stamps.items()))
    remembered = _remembered(known / CONTENT)
    if remembered.get("listing") == listing and isinstance(remembered.get("sha256"), str):
        return remembered["sha256"]
    hashes = _hashes(folder, stamps, _remembered(known / FILES))
    sha256 = text_hash("".join(f"{name}\0{hashes[name]}\0" for name in sorted(hashes)))
    # If this cannot be written, the files are read again next time.
    with contextlib.suppress(UserError, OSError):
        write_json(known / FILES, {name: [*stamps[name], hashes[name]] for name in stamps})
        write_json(known / CONTENT, {"listing": listing, "sha256": sha256})
    return sha256


def _stamps(folder: Path, suffixes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Return the stamp of each file by its path below the folder; links to folders are not followed."""
    found, waiting = {}, [str(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.name.lower().endswith(suffixes):
                    with contextlib.suppress(OSError):
                        found[os.path.relpath(entry.path, folder)] = file_stamp(entry.stat())
    return found


def _hashes(folder: Path, stamps: Mapping[str, tuple[int, ...]], known: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each file by its path, reading those with another stamp than the known one."""
    hashes = {name: known[name][-1] for name, stamp in stamps.items() if _is_known(known.get(name), stamp)}
    unread = [name for name in stamps if name not in hashes]
    size = sum(stamps[name][0] for name in unread)
    if size >= SLOW_BYTES:
        logger.warning(
            "%s: %d files are new or have changed: reading their %.1f GB once", folder, len(unread), size / 1e9
        )
    with ThreadPoolExecutor(THREADS) as pool:
        return hashes | dict(zip(unread, pool.map(lambda name: _hash(folder / name), unread), strict=True))


def _is_known(entry: Any, stamp: tuple[int, ...]) -> bool:
    return isinstance(entry, list) and entry[:-1] == list(stamp) and isinstance(entry[-1], str)


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except (UserError, OSError):
        return "missing"


def _remembered(path: Path) -> dict[str, Any]:
    with contextlib.suppress(UserError, OSError):
        if isinstance(content := read_json(path, FILES_BYTES), dict):
            return content
    return {}
