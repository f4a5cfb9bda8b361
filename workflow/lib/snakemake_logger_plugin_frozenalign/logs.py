"""What the console takes from the log of a job."""

import re
from glob import escape
from pathlib import Path

TAIL = 65536
LINES = 20
COPIES = Path(".snakemake/storage")
IN_STORAGE = re.compile(r"^(?:\w+://)?(.+) \([^()]*send to storage\)$")
FOUND = re.compile(r"^(?:\d\d:\d\d:\d\d  )?found: (.+)$")
PROGRESS = re.compile(r"^(?:\d\d:\d\d:\d\d  )?progress: (.+)$")
ERROR = re.compile(r"^(?:\d\d:\d\d:\d\d  )?(?:error: |Traceback \(most recent call last\))")


def state(path: str) -> tuple[int, int] | None:
    """Return what changes of a log when a job writes to it, None while there is none."""
    try:
        status = _file(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def finding(path: str) -> str:
    """Return the last line of a log that begins with `found: `, without these words; nothing where there is none."""
    return _last(FOUND, path)


def progress(path: str) -> str:
    """Return the last line of a log that begins with `progress: `, without these words; nothing where there is none."""
    return _last(PROGRESS, path)


def _last(pattern: re.Pattern, path: str) -> str:
    found = [match[1].strip() for match in map(pattern.match, tail(path)) if match]
    return found[-1] if found else ""


def complaint(path: str) -> list[str]:
    """Return the error in which a log ends, whole, or its last lines."""
    lines = tail(path)
    begins = [number for number, line in enumerate(lines) if ERROR.match(line)]
    return lines[begins[0] :] if begins else lines[-LINES:]


def tail(path: str) -> list[str]:
    """Return the lines at the end of a log, none where it cannot be read."""
    try:
        with _file(path).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _file(path: str) -> Path:
    """Return where a log lies that Snakemake names: one for a storage in the local copy, as long as there is one."""
    stored = IN_STORAGE.match(path)
    if not stored:
        return Path(path)
    return next(COPIES.glob(f"*/{escape(stored[1].lstrip('/'))}"), Path(stored[1]))
