"""Errors of the system when a file cannot be written, as one sentence with the path, the sizes and the remedy."""

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from frozenalign.system.errors import UserError

# Room for the logs of a run.
PROBE_BYTES = 64 << 10
_AGAIN = "then run the same command again"
OF_SPACE = {
    errno.ENOSPC: f"the disk has no room for more bytes or more files: make room there, {_AGAIN}",
    errno.EDQUOT: f"your quota of that disk is used up: delete files of yours there or ask for more, {_AGAIN}",
    errno.EFBIG: f"the file is larger than the system allows (see ulimit -f): raise the limit, {_AGAIN}",
}
OF_PLACE = {
    errno.EROFS: f"the file system is read-only: mount it for writing, {_AGAIN}, or write elsewhere",
    errno.EACCES: f"you have no permission: ask for it (chmod), {_AGAIN}, or write elsewhere",
    errno.EPERM: f"the system does not permit it: check the owner and attributes of the folder, {_AGAIN}",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ENOTDIR: "a part of the path is a file, not a folder: move that file away, or write elsewhere",
    errno.EEXIST: "a part of the path is a file, not a folder: move that file away, or write elsewhere",
    errno.EISDIR: "a folder of that name stands there: move it away, or write elsewhere",
    errno.EIO: f"the disk reports an error: check it and its connection, {_AGAIN}",
}


@contextlib.contextmanager
def refusals_explained(path: str | Path, needed: int | None = None) -> Iterator[None]:
    """Turn the system's refusal to write `path`, of `needed` bytes if known, into a UserError; other errors pass."""
    try:
        yield
    except Exception as error:
        refused = _system_error(error)
        if refused is None:
            raise
        raise UserError(refusal(path, refused.errno, needed)) from error


def refuse_unwritable(folder: str | Path) -> None:
    """Refuse a folder in which a small file cannot be written; a missing folder is made."""
    folder = Path(folder)
    with refusals_explained(folder, PROBE_BYTES):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))


def refusal(path: str | Path, number: int, needed: int | None = None) -> str:
    """Return the sentence that `path` cannot be written, for an error number of OF_SPACE or OF_PLACE."""
    if number in OF_PLACE:
        return f"cannot write {path}: {OF_PLACE[number]}"
    sizes = [] if needed is None else [f"at least {needed:,} bytes needed"]
    folder = next((parent for parent in (Path(path), *Path(path).parents) if parent.is_dir()), ".")
    with contextlib.suppress(OSError):
        sizes.append(f"{shutil.disk_usage(folder).free:,} bytes free")
    return f"cannot write {path} ({', '.join(sizes)}): {OF_SPACE[number]}"


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the first OSError of OF_SPACE or OF_PLACE among an error and its causes."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in OF_SPACE | OF_PLACE:
            return error
        error = error.__cause__ or error.__context__
    return None
