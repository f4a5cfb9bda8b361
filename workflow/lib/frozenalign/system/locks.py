"""Locks between processes; the system releases them however the holder ends."""

import contextlib
import errno
import fcntl
import logging
import math
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
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
    """Let one process at a time write a folder, which is made if missing; a second process is refused.

    The lock file names its holder and is deleted after the block. One that a killed process left behind does not block
    others, and the unfinished files of that process are deleted.
    """
    folder = Path(folder)
    path = folder / LOCK_NAME
    fresh = [each for each in (folder, *folder.parents) if not each.exists()]

    def refuse(holder: str) -> None:
        raise UserError(f"{holder} writes to {folder}: wait for it, or stop it, then run the same command again")

    with refusals_explained(folder):
        stream, has_locks = _hold(path, refuse)
    with stream:
        _sign(stream)
        # Without locks another process may be writing there.
        if has_locks:
            remove_unfinished(folder)
        try:
            yield
        finally:
            # While it is still held: later, another process may hold a file of this name.
            with contextlib.suppress(OSError):
                path.unlink()
                for each in fresh:
                    each.rmdir()


@contextlib.contextmanager
def in_turn(path: Path, patience: float = math.inf) -> Iterator[bool]:
    """Hold a lock file during a block, after waiting for its holder; yield whether the file system has locks.

    patience: seconds after which a holder is passed over; a stopped process holds its locks, perhaps for hours.
    """
    with refusals_explained(path):
        stream, has_locks = _wait_for(path, patience)
    with stream:
        yield has_locks


def is_held(path: Path) -> bool:
    """Return whether a process of this machine holds a lock file."""
    with contextlib.suppress(FileNotFoundError), path.open("r+b", buffering=0) as stream:
        return _try_lock(stream) is None
    return False


def _wait_for(path: Path, patience: float) -> tuple[BinaryIO, bool]:
    """Open and lock a file; one that cannot be had in time is replaced by a new one, for which all wait anew."""
    waited_for, deadline = None, math.inf
    while True:
        stream = path.open("a+b", buffering=0)
        has_locks = _try_lock(stream)
        opened = os.fstat(stream.fileno())
        with contextlib.suppress(FileNotFoundError):
            if has_locks is not None and os.path.samestat(opened, path.stat()):
                return stream, has_locks
        stream.close()
        if waited_for != opened.st_ino:
            waited_for, deadline = opened.st_ino, time.monotonic() + patience
        elif time.monotonic() > deadline:
            path.unlink(missing_ok=True)
        time.sleep(random.uniform(0.001, 0.01))


def _try_lock(stream: BinaryIO) -> bool | None:
    """Lock a file; return False if the file system has no locks, None if another process holds this one."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return None
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


@contextlib.contextmanager
def after_its_holder(path: Path, waits_for: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file during a block, after waiting for its holder; the file names its holder and is deleted after it.

    waits_for: called with the name of every holder that is waited for.
    """
    with refusals_explained(path):
        stream, _ = _hold(path, waits_for)
    with stream:
        _sign(stream)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _sign(stream: BinaryIO) -> None:
    """Write who holds a lock file into it."""
    # A full disk takes no name; the next write reports that it is full.
    with contextlib.suppress(OSError):
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}".encode())


def _hold(path: Path, if_held: Callable[[str], None]) -> tuple[BinaryIO, bool]:
    """Open and lock a file, whose last holder may be deleting it and its folder, and return what `_lock` returns.

    A deleted file is told by its name, not by its number of links: NFS keeps one of a file that is still open.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as unless_kept:
            stream = unless_kept.enter_context(path.open("a+b", buffering=0))
            has_locks = _lock(stream, path.parent, if_held)
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                unless_kept.pop_all()
                return stream, has_locks


def _lock(stream: BinaryIO, folder: Path, if_held: Callable[[str], None]) -> bool:
    """Lock a file, and return False if the file system has no locks.

    if_held: called with the name of another process that holds the file, which is then waited for.
    """
    has_locks = _try_lock(stream)
    if has_locks is None:
        stream.seek(0)
        if_held(stream.read().decode(errors="replace").strip() or "another process")
        fcntl.flock(stream, fcntl.LOCK_EX)
        return True
    if not has_locks:
        logger.warning("%s: this file system has no locks: do not start a second run that writes there", folder)
    return has_locks
