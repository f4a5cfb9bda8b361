"""Reservations between real processes: who gets which device, and what is left of one that was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from frozenalign.system.reservations import reserve

HOLD = """
import sys
from pathlib import Path
from frozenalign.system.reservations import reserve
taken = reserve(tuple(sys.argv[2:]), Path(sys.argv[1]))
print(taken.index, taken.others, flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that reserves one of the devices and keeps it until it is ended."""

    def __init__(self, folder: Path, *names: str) -> None:
        command = [sys.executable, "-c", HOLD, folder, *names]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def taken(self) -> tuple[int, int]:
        """Return the index of its device and how many others held it, once it has one."""
        index, others = self.process.stdout.readline().split()
        return int(index), int(others)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def hold(tmp_path):
    """Return a function that starts a holder; all are ended after the test."""
    holders = []

    def start(*names: str) -> Holder:
        holders.append(Holder(tmp_path / "locks", *names))
        return holders[-1]

    yield start
    for holder in holders:
        holder.kill()
        holder.process.stdin.close()
        holder.process.stdout.close()


def test_processes_started_together_take_different_devices_then_share_them_evenly(hold):
    holders = [hold("GPU-a", "GPU-b") for _ in range(6)]
    assert sorted(holder.taken() for holder in holders) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_a_killed_process_leaves_its_device_free(hold):
    first, second = hold("GPU-a", "GPU-b"), hold("GPU-a", "GPU-b")
    found = {first.taken(): first, second.taken(): second}
    found[1, 0].kill()
    assert hold("GPU-a", "GPU-b").taken() == (1, 0)


def test_the_least_used_device_is_that_with_the_fewest_living_holders(hold):
    early, late = hold("GPU-a"), hold("GPU-a")
    assert sorted([early.taken(), late.taken()]) == [(0, 0), (0, 1)]
    other = hold("GPU-b")
    assert other.taken() == (0, 0)
    early.kill()
    assert hold("GPU-a", "GPU-b").taken() == (0, 1)
    assert hold("GPU-a", "GPU-b").taken() == (1, 1)


def test_a_device_is_known_by_its_name_whatever_else_a_process_sees(hold):
    assert hold("GPU-b").taken() == (0, 0)
    assert hold("GPU-a", "GPU-b", "MIG-GPU-1/2/0").taken() == (0, 0)
    assert hold("GPU-b", "MIG-GPU-1/2/0").taken() == (1, 0)
    assert hold("MIG-GPU-1/2/0").taken() == (0, 1)


def test_a_process_keeps_the_device_that_it_has(tmp_path):
    names = ("GPU-a", "GPU-b")
    assert reserve(names, tmp_path / "locks") == reserve(names, tmp_path / "locks")


def test_a_folder_that_is_a_link_is_not_used(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "locks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="belongs to another user"):
        reserve(("GPU-a",), tmp_path / "locks")
