"""The log of a step, which one process at a time writes: whoever else does that step waits for it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from frozenalign.system.locks import after_its_holder
from frozenalign.system.refusals import refusals_explained


@contextlib.contextmanager
def in_its_log(path: Path) -> Iterator[None]:
    """Send standard output and error to a log from now on, after waiting for another process that writes it.

    Snakemake deletes the log of a job before it starts the job, even if an earlier process of that job still writes it.
    So a log has a second name while it is written, from which one who waits restores the first; it then adds to it.
    """
    second = path.with_name(f".{path.name}.second")
    waited = False

    def wait(holder: str) -> None:
        nonlocal waited
        waited = True
        _name_again(second, path)
        print(f"waiting for {holder}, which writes {path}", file=sys.stderr, flush=True)

    with after_its_holder(path.with_name(f".{path.name}.lock"), wait):
        with refusals_explained(path):
            second.unlink(missing_ok=True)
            # Never truncated: where there are no locks, another process may be writing it.
            if not waited:
                path.unlink(missing_ok=True)
            stream = path.open("ab")
        _name_again(path, second)
        with stream:
            for output in (sys.stdout, sys.stderr):
                os.dup2(stream.fileno(), output.fileno())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                second.unlink()


def _name_again(path: Path, other: Path) -> None:
    """Give a file another name, unless a file has that name or the file system has no hard links."""
    with contextlib.suppress(OSError):
        os.link(path, other)
