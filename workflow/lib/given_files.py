"""A small file that stands for a user's large ones, whose times say nothing: newer than what was made from others."""

import contextlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from workflow.lib.content import remembered_hash
from workflow.lib.errors import UserError
from workflow.lib.files import read_json, write_json


def present_hashes(paths: Iterable[str | Path], known: Path | None = None) -> dict[str, str | None]:
    """Return the SHA-256 of files by their name without folders, None where there is no such file.

    known: a JSON file that remembers the hashes of large files.
    """
    return {path.name: remembered_hash(path, known) if path.is_file() else None for path in map(Path, paths)}


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
