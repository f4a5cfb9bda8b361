"""The import closure of a script, so that a rule can name the code that it depends on."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path


def import_closure(script: Path, root: Path) -> list[Path]:
    """Return `script` and every module of the package `workflow` that it imports, directly or not, sorted.

    `root` is the folder that holds the package. Only absolute imports are followed, wherever in a file they stand.
    """
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        source = path.read_text(encoding="utf-8")
        waiting += [target for name in _imported_names(source) if (target := _module_path(name, root))]
    return sorted(found)


@functools.cache
def _imported_names(source: str) -> frozenset[str]:
    """Return the dotted names that may be modules of the package; `from a import b` gives `a` and `a.b`."""
    names: set[str] = set()
    for node in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in names if name.split(".")[0] == "workflow")


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield a module and all its statements; expressions, most of the tree, hold no import."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, block, ())


def _module_path(name: str, root: Path) -> Path | None:
    path = root.joinpath(*name.split(".")).with_suffix(".py")
    return path if path.is_file() else None
