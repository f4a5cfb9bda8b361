"""Files known by what they hold, not by when they were written."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from workflow.lib.sources import import_closure


def content_hash(paths: Iterable[Path]) -> str:
    """Return one SHA-256 of the content of files, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def code_hash(script: Path) -> str:
    """Return the SHA-256 of a script in `workflow/scripts` and of every module that it imports."""
    return content_hash(import_closure(script, script.parents[2]))
