"""Files known by what they hold: data, and the code that a script runs."""

import ast
import contextlib
import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, read_json, write_json

logger = logging.getLogger(__name__)
# Files from this size on are read once and then known by their size and times until those change.
LARGE_BYTES = 10_000_000
SLOW_BYTES = 1_000_000_000
REGISTRY = "registry.py"
SHOWN_DIGITS = 12


def code_hash(script: Path) -> str:
    """Return the SHA-256 of a script in `workflow/scripts` and of every module that it imports."""
    return content_hash(import_closure(script, script.parents[1] / "lib"))


def content_hash(paths: Iterable[str | Path], known: Path | None = None) -> str:
    """Return one SHA-256 of the content of files, in their order; a missing one counts as such.

    known: a JSON file that remembers the hashes of large files; it is made and renewed here.
    """
    digest = hashlib.sha256()
    for path in map(Path, paths):
        digest.update(_hash(path, known).encode())
    return digest.hexdigest()


def content_rows(paths: Iterable[str | Path], root: Path | None = None, known: Path | None = None) -> list[str]:
    """Return `name hash` of each file, as a person reads it; a missing file's hash is "missing".

    The name is the path below `root`, or the file's own. known: as for `content_hash`.
    """
    found = map(Path, paths)
    return [f"{path.relative_to(root) if root else path.name} {_hash(path, known)[:SHOWN_DIGITS]}" for path in found]


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


def import_closure(script: Path, library: Path) -> list[Path]:
    """Return `script` and every module in the folder `library` that it imports, directly or not, sorted.

    Only absolute imports are followed, wherever in a file they stand. A registry imports the modules of its folder that
    register something.
    """
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting += [target for name in _imported_names(_source(path)) if (target := _module_path(name, library))]
        if path.name == REGISTRY:
            waiting += [other for other in path.parent.glob("*.py") if "\n@register_" in _source(other)]
    return sorted(found)


def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def _imported_names(source: str) -> frozenset[str]:
    """Return the dotted names that may be modules; `from a import b` gives `a` and `a.b`."""
    names: set[str] = set()
    for node in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield a module and all its statements; expressions, most of the tree, hold no import."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, block, ())


@functools.cache
def _module_path(name: str, library: Path) -> Path | None:
    path = library.joinpath(*name.split(".")).with_suffix(".py")
    return path if path.is_file() else None
