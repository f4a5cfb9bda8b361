"""How much memory is left to this process."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

OWN_GROUPS = Path("/proc/self/cgroup")
# Files of a control group, version 2 and 1: its limit, its use, and the names of cached files in `memory.stat`.
V2 = ("memory.max", "memory.current", "inactive_file", "active_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
HIERARCHIES = (("/sys/fs/cgroup", V2), ("/sys/fs/cgroup/unified", V2), ("/sys/fs/cgroup/memory", V1))
# Of what a control group leaves, the kernel needs some itself.
SHARE_OF_GROUP = 0.95


def memory_left() -> int:
    """Return the bytes that this process can still take: of the machine, its control groups, `ulimit -v` and `-d`."""
    return max(0, min([_left_of_machine(), *_left_of_groups(), *_left_of_addresses(), *_left_of_data()]))


def end_before_killed() -> None:
    """Let requests for more memory than the control groups leave fail, where the kernel would kill the process later.

    What is counted against this limit is memory of the process's own, neither libraries nor mapped files.
    """
    with contextlib.suppress(OSError, KeyError):
        if groups := list(_left_of_groups()):
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            limit = _own_data() + int(SHARE_OF_GROUP * max(0, min(groups)))
            if all(limit < other or other == resource.RLIM_INFINITY for other in (soft, hard)):
                resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def gigabytes(count: int) -> str:
    """Return a number of bytes for a message."""
    return f"{count / 1e9:.2g} GB" if count < 99e9 else f"{count / 1e9:.0f} GB"


def _left_of_machine() -> int:
    with contextlib.suppress(OSError, KeyError):
        return 1024 * _numbers(Path("/proc/meminfo"))["MemAvailable"]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_of_addresses() -> Iterator[int]:
    """Yield what `ulimit -v` leaves: address space, so that mapped libraries and files count as well."""
    if (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        yield limit - pages * resource.getpagesize()


def _left_of_data() -> Iterator[int]:
    """Yield what `ulimit -d` leaves: memory of the process's own, without libraries and mapped files."""
    if (limit := resource.getrlimit(resource.RLIMIT_DATA)[0]) != resource.RLIM_INFINITY:
        yield limit - _own_data()


def _own_data() -> int:
    return 1024 * _numbers(Path("/proc/self/status"))["VmData"]


def _left_of_groups() -> Iterator[int]:
    """Yield what each limited control group leaves: the process's own, and those that it is in.

    A container may name its group as its host does, and see that folder as the root: a folder that is missing is passed
    over. Cached files do not count, since they make room. A group without a limit says `max`, or a number beyond any
    machine.
    """
    for root, (limit, used, *cached), own in _own_groups():
        for group in (root / own, *(root / own).parents):
            with contextlib.suppress(OSError, ValueError, KeyError):
                counted = _numbers(group / "memory.stat")
                left = int((group / limit).read_text(encoding="ascii"))
                left -= int((group / used).read_text(encoding="ascii"))
                yield left + sum(counted[name] for name in cached)
            if group == root:
                break


def _own_groups() -> Iterator[tuple[Path, tuple[str, ...], str]]:
    """Yield folder, names and path within the folder of every hierarchy that limits the memory of this process."""
    with contextlib.suppress(OSError):
        for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, own = line.split(":", 2)
            for root, names in HIERARCHIES:
                if names is (V1 if "memory" in controllers.split(",") else V2 if not controllers else None):
                    yield Path(root), names, own.strip("/")


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers of a file of the kernel's, by the names before them."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) > 1 and line[1].isdecimal()}
