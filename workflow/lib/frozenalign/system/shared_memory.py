"""Bytes that processes of one user share: the first writes them, those that run beside it map them.

They lie in memory without a name in any folder, so that they are gone with the last process that maps them, however it
ends. Only a list of the holders has a name.
"""

import contextlib
import mmap
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from frozenalign.system.locks import in_turn, is_held
from frozenalign.system.reservations import FOLDER, make_folder

Put = Callable[[memoryview, int], None]
PREFIX = "shared-"
# Seconds after which one that is still writing is passed over; it may have been stopped.
PATIENCE = 600.0


def shared_bytes(name: str, size: int, write: Callable[[Put], None], folder: Path = FOLDER) -> mmap.mmap:
    """Return `size` bytes to read, written by this process only if no other that runs has bytes of this name.

    name: stands for the content, for example a hash. write: called with a function that puts bytes at an offset; it may
    be used by several threads. Whoever asks meanwhile waits. Where memory cannot be shared so, outside Linux: OSError.
    """
    if not can_share():
        raise OSError("no memory that has no name")
    make_folder(folder)
    holders = _holders(folder, name)
    with in_turn(holders, PATIENCE):
        descriptor = _opened(holders, name, size)
        if descriptor is None:
            descriptor = _written(name, write)
            if os.fstat(descriptor).st_size != size:
                raise ValueError(f"{name}: {os.fstat(descriptor).st_size} bytes written where {size} were announced")
            holders.write_text("", encoding="ascii")
        pages = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
        weakref.finalize(pages, os.close, descriptor)
        with holders.open("a", encoding="ascii") as stream:
            stream.write(f"{os.getpid()} {descriptor}\n")
    return pages


def can_share() -> bool:
    """Return whether this system has memory without a name, as Linux does."""
    return hasattr(os, "memfd_create")


def is_shared(beginning: str, folder: Path = FOLDER) -> bool:
    """Return whether a process holds or writes bytes whose name has this beginning."""
    for holders in folder.glob(f"{PREFIX}{beginning}*"):
        name = holders.name.removeprefix(PREFIX)
        if is_held(holders) or any(_links_to(path, name) for path in _listed(holders)):
            return True
    return False


def _holders(folder: Path, name: str) -> Path:
    """Return the file that lists process and descriptor of each holder; its lock is held to write or open the bytes."""
    return folder / f"{PREFIX}{name}"


def _written(name: str, write: Callable[[Put], None]) -> int:
    """Return the descriptor of new memory after `write` has filled it."""
    descriptor = os.memfd_create(name)

    def put(part: memoryview, offset: int) -> None:
        while part:
            done = os.pwrite(descriptor, part, offset)
            part, offset = part[done:], offset + done

    try:
        write(put)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _opened(holders: Path, name: str, size: int) -> int | None:
    """Return a descriptor of the bytes of any holder that still runs, None if there is none."""
    for path in _listed(holders):
        with contextlib.suppress(OSError):
            if _links_to(path, name) and path.stat().st_size == size:
                return os.open(path, os.O_RDONLY)
    return None


def _listed(holders: Path) -> Iterator[Path]:
    """Yield where the system shows the descriptor of each listed holder."""
    with contextlib.suppress(OSError, UnicodeError):
        for line in holders.read_text(encoding="ascii").splitlines():
            process, _, descriptor = line.partition(" ")
            yield Path(f"/proc/{process}/fd/{descriptor}")


def _links_to(path: Path, name: str) -> bool:
    """Return whether a descriptor is still that of the bytes: numbers of ended processes are given out again."""
    with contextlib.suppress(OSError):
        return str(path.readlink()) == f"/memfd:{name} (deleted)"
    return False
