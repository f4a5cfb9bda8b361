"""A small file that stands for a user's large ones, whose times say nothing: newer than what was made from others."""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json, text_hash, write_json
from frozenalign.system.fingerprints import remembered_hash, remembered_part

# Metadata are checked by the split; here nothing but memory bounds them.
METADATA_BYTES = 4 << 30
PAIRS = "pairs"
LINKS = ".snakemake"


def link_to(path: str | Path, link: Path) -> str:
    """Let `link` lead to a user's file and return it, or return the path where there is no file or no link can be made.

    Snakemake knows a job's inputs by their paths: those of links stay when the folder with the files moves.
    """
    target = Path(path).absolute()
    if not target.is_file():
        return str(path)
    try:
        if not link.is_symlink() or link.readlink() != target:
            link.parent.mkdir(parents=True, exist_ok=True)
            temporary = link.with_name(f".{link.name}.{os.getpid()}")
            temporary.symlink_to(target)
            temporary.replace(link)
    except OSError:
        return str(path)
    return str(link)


def given_path(link: str | Path) -> Path:
    """Return the path that the user gave of a file, below this folder in short."""
    path = Path(link)
    if not path.is_symlink() or LINKS not in path.parts:
        return path
    target = path.readlink()
    return target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target


def present_hashes(paths: Iterable[str | Path], known: Path | None = None) -> dict[str, str | None]:
    """Return the SHA-256 of files by their name without folders, None where there is no such file.

    known: a JSON file that remembers the hashes of large files.
    """
    return {path.name: remembered_hash(path, known) if path.is_file() else None for path in map(Path, paths)}


def pairs_hash(metadata: str | Path, known: Path) -> str:
    """Return `pairs_digest` of a metadata file; "unreadable" of one that the split will refuse."""

    def digest() -> str:
        content = read_json(metadata, METADATA_BYTES)
        ids, unique = (content.get(name) for name in ("image_ids", "unique_image_ids"))
        return pairs_digest(map(str, ids), None if unique is None else map(str, unique))

    try:
        return remembered_part(Path(metadata), PAIRS, known, digest)
    except (UserError, OSError, AttributeError, TypeError):
        return "unreadable"


def pairs_digest(image_ids: Iterable[str], unique_ids: Iterable[str] | None) -> str:
    """Return the SHA-256 of what metadata say of the rows: the image id of each text, and of each image where listed.

    Captions and pictures can change without it.
    """
    return text_hash("\0".join(image_ids) + "\n" + ("-" if unique_ids is None else "\0".join(unique_ids)))


def made_from_others(result: str | Path, key: str, present: Mapping[str, str | None]) -> bool:
    """Say whether a result notes under `key` other files, by name and SHA-256, than those that are present.

    A result that is not there, or does not say what it was made from, counts as made from these.
    """
    noted = _document(result).get(key)
    if not isinstance(noted, dict) or noted.keys().isdisjoint(present):
        return False
    return any(noted.get(name) != sha256 for name, sha256 in present.items())


def write_witness(path: str | Path, present: Mapping[str, str | None], anew: bool) -> bool:
    """Let a file say what is present, written `anew` or where it says otherwise, and return whether it is there.

    Where nothing can be written, it stays as it is.
    """
    if anew or _document(path).get("files") != present:
        # The moment makes its bytes differ, for Snakemake passes over a newer file whose bytes it has met before.
        with contextlib.suppress(UserError, OSError):
            write_json(path, {"files": present, "written": time.time_ns()})
    return Path(path).is_file()


def _document(path: str | Path) -> dict[str, Any]:
    """Return a JSON object, empty where the file is missing or damaged."""
    try:
        content = read_json(path)
    except (UserError, OSError):
        return {}
    return content if isinstance(content, dict) else {}
