"""A user's files as inputs of Snakemake: links, hashes, and a small file whose time shows that a result is stale."""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozenalign.data.assignments import Assignments
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json, text_hash, write_json
from frozenalign.system.fingerprints import remembered_hash, remembered_part

# Metadata are checked by the split; here nothing but memory bounds them.
LARGEST_METADATA = 4 << 30
# Names of the hash of the image ids: of the set that is split, and of the one that is split with it.
PAIRS, EXTRA_PAIRS = "pairs", "pairs of val2017"
LINKS = ".snakemake"


def link_to(path: str | Path, link: Path) -> str:
    """Make `link` point to a user's file and return it; return the path if there is no file or no link can be made.

    Snakemake identifies a job's inputs by their paths: a link's path stays when the folder with the files moves.
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
    """Return the path of a file as the user gave it, relative if it is below the current folder."""
    path = Path(link)
    if not path.is_symlink() or LINKS not in path.parts:
        return path
    target = path.readlink()
    return target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target


def present_hashes(paths: Iterable[str | Path], known: Path | None = None) -> dict[str, str | None]:
    """Return the SHA-256 of files by their name without folders, None for a missing file.

    known: a JSON file that keeps the hashes of large files.
    """
    return {path.name: remembered_hash(path, known) if path.is_file() else None for path in map(Path, paths)}


def pairs_hash(metadata: str | Path, known: Path) -> str:
    """Return `pairs_digest` of a metadata file, or "unreadable" if the split will refuse it."""

    def digest() -> str:
        content = read_json(metadata, LARGEST_METADATA)
        ids, unique = (content.get(name) for name in ("image_ids", "unique_image_ids"))
        return pairs_digest(map(str, ids), None if unique is None else map(str, unique))

    try:
        return remembered_part(Path(metadata), PAIRS, known, digest)
    except (UserError, OSError, AttributeError, TypeError):
        return "unreadable"


def pairs_digest(image_ids: Iterable[str], unique_ids: Iterable[str] | None) -> str:
    """Return the SHA-256 of the image ids of the texts and, if listed, of the images; captions do not count."""
    return text_hash("\0".join(image_ids) + "\n" + ("-" if unique_ids is None else "\0".join(unique_ids)))


def split_as_one(assignments: str | Path, metadata: str | Path, extra: str | Path, known: Path) -> bool:
    """Return whether an assignment file names images of two sets, given by their metadata, so that both are split.

    Where the split will refuse one of the files, they count as two sets. known: a JSON file that keeps the answer.
    """

    def answer() -> str:
        ids = [list(map(str, read_json(path, LARGEST_METADATA)["image_ids"])) for path in (metadata, extra)]
        images = sum(len(set(each)) for each in ids)
        return "yes" if Assignments.read(assignments, images).name_both(*ids) else "no"

    try:
        compared = text_hash(pairs_hash(metadata, known) + pairs_hash(extra, known))
        return remembered_part(Path(assignments), f"both of {compared}", known, answer) == "yes"
    except (UserError, OSError, KeyError, TypeError):
        return False


def made_from_others(result: str | Path, key: str, present: Mapping[str, str | None]) -> bool:
    """Return whether a result lists under `key` other files, by name and SHA-256, than those that are present.

    A result that is missing, or does not list its files, counts as made from these.
    """
    noted = _document(result).get(key)
    if not isinstance(noted, dict) or noted.keys().isdisjoint(present):
        return False
    return any(noted.get(name) != sha256 for name, sha256 in present.items())


def write_witness(path: str | Path, present: Mapping[str, str | None], anew: bool) -> bool:
    """Write what is present into a file, if `anew` or if it holds something else; return whether the file exists.

    If nothing can be written, it stays as it is.
    """
    if anew or _document(path).get("files") != present:
        # The time makes its bytes differ, because Snakemake ignores a newer file whose content it knows.
        with contextlib.suppress(UserError, OSError):
            write_json(path, {"files": present, "written": time.time_ns()})
    return Path(path).is_file()


def _document(path: str | Path) -> dict[str, Any]:
    """Return a JSON object, empty if the file is missing or damaged."""
    try:
        content = read_json(path)
    except (UserError, OSError):
        return {}
    return content if isinstance(content, dict) else {}
