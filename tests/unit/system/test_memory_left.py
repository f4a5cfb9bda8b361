"""The memory that is left: the least of what the machine, each control group and `ulimit -v` leave."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from frozenalign.system import memory_left as module
from frozenalign.system.memory_left import V1, V2, gigabytes, memory_left

MB = 1 << 20


def group(folder: Path, names: tuple[str, ...], limit: object, used: int, cached: int) -> None:
    """Write the files of a control group; `cached` bytes of its files are cached, half of them active."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    stat = "".join(f"{name} {cached // 2}\n" for name in names[2:])
    (folder / "memory.stat").write_text(f"anon 5\n{stat}hierarchical_memory_limit 7\n")


@pytest.fixture(params=[("0::/job/step", V2), ("4:memory:/job/step", V1), ("4:cpu,memory:/job/step", V1)], ids=str)
def hierarchy(request, tmp_path, monkeypatch) -> tuple[Path, tuple[str, ...]]:
    """The root of a hierarchy, and the names of its files; the process is in the group /job/step."""
    line, names = request.param
    own = tmp_path / "cgroup"
    own.write_text(f"9:name=systemd:/elsewhere\n{line}\n")
    monkeypatch.setattr(module, "OWN_GROUPS", own)
    monkeypatch.setattr(module, "HIERARCHIES", ((str(tmp_path / "groups"), names),))
    return tmp_path / "groups", names


def test_the_own_group_limits_and_cached_files_make_room(hierarchy):
    root, names = hierarchy
    group(root / "job/step", names, 300 * MB, used=250 * MB, cached=40 * MB)
    assert memory_left() == 90 * MB


@pytest.mark.parametrize("unlimited", ["max", 9223372036854771712])
def test_a_group_above_limits_where_the_own_one_does_not(hierarchy, unlimited):
    root, names = hierarchy
    group(root / "job/step", names, unlimited, used=20 * MB, cached=0)
    group(root / "job", names, 100 * MB, used=30 * MB, cached=0)
    group(root, names, 200 * MB, used=40 * MB, cached=0)
    assert memory_left() == 70 * MB


def test_in_a_container_the_root_is_the_own_group(hierarchy):
    root, names = hierarchy
    group(root, names, 100 * MB, used=10 * MB, cached=0)
    assert memory_left() == 90 * MB


def test_a_group_that_is_full_leaves_nothing(hierarchy):
    root, names = hierarchy
    group(root / "job", names, 100 * MB, used=101 * MB, cached=0)
    assert memory_left() == 0


def test_without_groups_the_machine_limits(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "OWN_GROUPS", tmp_path / "none")
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(line for line in lines if "MemAvailable" in line)
    assert memory_left() == pytest.approx(1024 * int(available.split()[1]), rel=0.2)


LIMITED = """
import mmap, resource, sys
from frozenalign.system import memory_left as module
used = lambda: int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited this way on Linux alone")
def test_what_ulimit_leaves_of_the_address_space():
    program = """
resource.setrlimit(resource.RLIMIT_AS, (used() + (100 << 20), -1))
before = module.memory_left()
held = mmap.mmap(-1, 60 << 20)
print(before >> 20, (before - module.memory_left()) >> 20)
"""
    done = subprocess.run([sys.executable, "-c", LIMITED + program], capture_output=True, text=True, check=True)
    before, taken = map(int, done.stdout.split())
    assert 90 <= before <= 100
    assert 59 <= taken <= 62


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_request_beyond_the_own_group_fails_in_the_process_where_the_kernel_would_kill_it(tmp_path):
    group(tmp_path, V2, 200 * MB, used=100 * MB, cached=0)
    (tmp_path / "own").write_text("0::/\n")
    program = f"""
from pathlib import Path
module.OWN_GROUPS, module.HIERARCHIES = Path({str(tmp_path / "own")!r}), (({str(tmp_path)!r}, module.V2),)
module.end_before_killed()
kept = bytearray(60 << 20)
try:
    more = bytearray(60 << 20)
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", LIMITED + program], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 GB"), (95 * 10**6, "0.095 GB"), (3.72e9, "3.7 GB"), (4e11, "400 GB")]
)
def test_bytes_in_a_message(count, shown):
    assert gigabytes(count) == shown


def test_no_limit_is_set_where_no_group_has_one(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "OWN_GROUPS", tmp_path / "none")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    module.end_before_killed()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
