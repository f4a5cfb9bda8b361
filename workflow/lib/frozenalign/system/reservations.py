"""Reservations of devices: processes that run side by side on one machine take different ones."""

import fcntl
import functools
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from frozenalign.system.locks import in_turn

# In memory: of this machine, whatever disks are shared, and of this user.
FOLDER = Path(f"/dev/shm/frozenalign-{os.getuid()}")


@dataclass(frozen=True)
class Reservation:
    """The place of the reserved device in the list of those asked for, and how many processes had reserved it."""

    index: int
    others: int


@functools.cache
def reserve(names: tuple[str, ...], folder: Path = FOLDER) -> Reservation:
    """Reserve the device that the fewest processes of this user have reserved, the first of several, and return it.

    The reservation ends with the process, however that ends; asking again for the same devices returns the same one.
    Where all are taken, one is shared: a device computes for several processes at a time.
    names: of the devices, the same in all processes of the machine. If no file can be locked: OSError or UserError.
    """
    make_folder(folder)
    files = [re.sub(r"[^\w.-]", "_", name) for name in names]
    with in_turn(folder / "choosing.lock"):
        holders = [_holders(folder, name) for name in files]
        index = holders.index(min(holders))
        _hold(folder, files[index])
    return Reservation(index, holders[index])


def make_folder(folder: Path) -> None:
    """Make the folder if it is missing; one that another user has made is a PermissionError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")


def _holders(folder: Path, name: str) -> int:
    """Return how many processes hold a lock of a device; each holds a file of its own."""
    locks = [_locked(path) for path in folder.glob(f"{name}.*")]
    for lock in locks:
        if lock is not None:
            os.close(lock)
    return locks.count(None)


def _hold(folder: Path, name: str) -> None:
    """Lock a file of a device that no process holds. It is never closed: the lock is to last as long as the process."""
    next(i for i in itertools.count() if _locked(folder / f"{name}.{i}") is not None)


def _locked(path: Path) -> int | None:
    """Return the descriptor of a file that is locked from now on, or None if another process has locked it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
