"""Locks between processes, which the system frees however their holder ends."""

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from frozenalign.system.errors import UserError
from frozenalign.system.files import remove_unfinished
from frozenalign.system.refusals import refusals_explained

logger = logging.getLogger(__name__)
LOCK_NAME = ".writer.lock"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_HELD = {errno.EAGAIN, errno.EACCES}


@contextlib.contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """Let one process at a time write a folder, which is made where it is missing; a second one is refused.

    The lock file names its holder and goes with the block; one that a killed process left behind holds nobody up, and
    what that process had not written to its end is deleted.
    """
    folder = Path(folder)
    path = folder / LOCK_NAME
    fresh = [each for each in (folder, *folder.parents) if not each.exists()]
    with refusals_explained(folder):
        stream, alone = _hold(path)
    with stream:
        _sign(stream)
        if alone:
            remove_unfinished(folder)
        try:
            yield
        finally:
            # While it is still held: a file deleted later could be one that another process holds by then.
            with contextlib.suppress(OSError):
                path.unlink()
                for each in fresh:
                    each.rmdir()


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold a lock file for the moment of a block, after waiting for whoever holds it."""
    with refusals_explained(path):
        stream = path.open("a+b", buffering=0)
    with stream:
        _lock(stream, path.parent, wait=True)
        yield


def _hold(path: Path) -> tuple[BinaryIO, bool]:
    """Open and lock the file that stands under a name once it is locked: its last holder may have deleted the first.

    Return it, and whether the file system has locks, so that nobody else can be in the folder.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            stream = path.open("a+b", buffering=0)
        except FileNotFoundError:
            continue  # the last holder has just taken the empty folder away
        with contextlib.ExitStack() as unless_kept:
            unless_kept.enter_context(stream)
            alone = _lock(stream, path.parent, wait=False)
            if _is_current(stream, path):
                unless_kept.pop_all()
                return stream, alone


def _is_current(stream: BinaryIO, path: Path) -> bool:
    """Say whether an open file still stands under its name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(stream: BinaryIO, folder: Path, wait: bool) -> bool:
    """Take a lock, or refuse what another process holds; a file system without locks gets a warning, and False."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _HELD:
            raise UserError(
                f"{_holder(stream)} writes to {folder}: wait for it, or stop it, then run the same command again"
            ) from error
        if error.errno not in _UNSUPPORTED:
            raise
        logger.warning("%s: this file system has no locks; let no second run write there", folder)
        return False
    return True


def _holder(stream: BinaryIO) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace").strip() or "another process"


def _sign(stream: BinaryIO) -> None:
    # A full disk takes no name; that it is full is said by what is written next.
    with contextlib.suppress(OSError):
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
