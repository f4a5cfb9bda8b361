"""Hashes of file contents: of data, and of the code that a script runs."""

import ast
import contextlib
import functools
import logging
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, read_json, text_hash, write_json

logger = logging.getLogger(__name__)
# The hash of a file of at least this size is remembered until its size or times change.
LARGE_BYTES = 10_000_000
SLOW_BYTES = 1_000_000_000
REGISTRY = "registry.py"
SHOWN_DIGITS = 12


def fingerprint(*decisive: Any) -> str:
    """Return the SHA-256 of plain values, on which a computation depends."""
    return text_hash(repr(decisive))


def code_hash(script: Path) -> str:
    """Return the SHA-256 of a script in `workflow/scripts` and of every module that it imports."""
    return content_hash(import_closure(script, script.parents[1] / "lib"))


def content_hash(paths: Iterable[str | Path], known: Path | None = None) -> str:
    """Return one SHA-256 of the content of files, in their order; a missing file counts as "missing".

    known: a JSON file that remembers the hashes of large files; it is written here.
    """
    return text_hash("".join(remembered_hash(Path(path), known) for path in paths))


def content_rows(paths: Iterable[str | Path], root: Path | None = None, known: Path | None = None) -> list[str]:
    """Return `name hash` of each file, the hash shortened; that of a missing file is "missing".

    The name is the path below `root`, or the file's own. known: as for `content_hash`.
    """
    return [
        f"{path.relative_to(root) if root else path.name} {remembered_hash(path, known)[:SHOWN_DIGITS]}"
        for path in map(Path, paths)
    ]


def file_stamp(status: os.stat_result) -> tuple[int, ...]:
    """Return size, times and inode of a file: at least one changes when it is rewritten, copied or replaced."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def remembered_hash(path: Path, known: Path | None) -> str:
    """Return the SHA-256 of a file, without reading a large one that `known` remembers; "missing" of a missing one."""
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
    """Return the hash that `known` holds for a name and stamp, or compute it and add it there."""
    entry = _read(known).get(name)
    if isinstance(entry, dict) and entry.get("stamp") == list(stamp) and isinstance(entry.get("sha256"), str):
        return entry["sha256"]
    if stamp[0] >= SLOW_BYTES:
        logger.warning("%s is new or has changed: reading its %.1f GB once", path, stamp[0] / 1e9)
    entry = {"stamp": list(stamp), "sha256": compute()}
    _add(known, {name: entry})
    return entry["sha256"]


def _read(known: Path) -> dict:
    with contextlib.suppress(UserError, OSError):
        if isinstance(content := read_json(known), dict):
            return content
    return {}


def _add(known: Path, entries: dict) -> None:
    # If this cannot be written, the file is hashed again next time.
    with contextlib.suppress(UserError, OSError):
        write_json(known, _read(known) | entries)


def remembered_part(path: Path, part: str, known: Path, compute: Callable[[], str]) -> str:
    """Return a hash of a part of a file, computed only if `known` does not hold it for the file's present stamp."""
    return _remembered(path, file_stamp(path.stat()), known, f"{path.absolute()} ({part})", compute)


def remember_hashes(hashes: dict[Path, str], known: Path) -> None:
    """Add the SHA-256 of files that were just read to `known`, where `remembered_hash` finds them."""
    stamps = {path: list(file_stamp(path.stat())) for path in hashes}
    _add(known, {str(path.absolute()): {"stamp": stamps[path], "sha256": hashes[path]} for path in hashes})


def import_closure(script: Path, library: Path, without: Collection[Path] = ()) -> list[Path]:
    """Return `script` and every module in the folder `library` that it imports, directly or not, sorted.

    Only absolute imports are followed, in any block of a file. A registry also imports the modules of its folder that
    register something.

    without: modules that are left out, with what only they import.
    """
    found: set[Path] = set()
    waiting = {script}
    while waiting:
        path = waiting.pop()
        found.add(path)
        names = _imported_names(_source(path))
        imported = {target for name in names if (target := _module_path(name, library))}
        if path.name == REGISTRY:
            others = path.parent.glob("*.py")
            imported |= {other for other in others if "\n@register_" in _source(other)}
        waiting |= imported - found - set(without)
    return sorted(found)


def _source(path: Path) -> str:
    """Return the text of a module, read once for all scripts that import it."""
    return _text(path, file_stamp(path.stat()))


@functools.cache
def _text(path: Path, stamp: tuple[int, ...]) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def _imported_names(source: str) -> frozenset[str]:
    """Return the dotted names that may be modules; `from a import b` gives `a` and `a.b`."""
    names: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(source)]
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        # Only blocks of statements: expressions, most of the tree, contain no import.
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            nodes += getattr(node, block, ())
    return frozenset(names)


@functools.cache
def _module_path(name: str, library: Path) -> Path | None:
    path = library.joinpath(*name.split(".")).with_suffix(".py")
    return path if path.is_file() else None
