"""Two processes that write one folder: the second is refused, and a killed holder does not block others."""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozenalign.system.errors import UserError
from frozenalign.system.locks import LOCK_NAME, only_writer
from tests.faults.conftest import Chain, contents
from workflow.scripts import demo_data

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from frozenalign.system.locks import only_writer
with only_writer(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
# Takes the folder a number of times, and fails if another process is in it.
VISITOR = """
import pathlib, sys
from frozenalign.system.errors import UserError
from frozenalign.system.locks import only_writer
folder, visits = pathlib.Path(sys.argv[1]), int(sys.argv[2])
while visits:
    try:
        with only_writer(folder):
            (folder / "inside").touch(exist_ok=False)
            (folder / "inside").unlink()
            visits -= 1
    except UserError:
        pass
"""


@contextlib.contextmanager
def another_process_in(folder: Path) -> Iterator[subprocess.Popen]:
    """Let another process hold a folder during the block, unless it ends earlier."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder], cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        yield process


def test_a_second_process_is_refused_with_the_first_ones_number_and_may_write_after_it(tmp_path):
    folder = tmp_path / "results"
    with another_process_in(folder) as holder:
        said = rf"process {holder.pid} on {socket.gethostname()} writes to {folder}: wait for it, or stop it"
        with pytest.raises(UserError, match=said), only_writer(folder):
            pass
        assert (folder / LOCK_NAME).exists()
    with only_writer(folder):
        (folder / "output").touch()
    assert list(contents(folder)) == ["output"]


def test_a_killed_process_holds_nobody_up(tmp_path):
    with another_process_in(tmp_path) as holder:
        holder.kill()
        holder.wait()
        assert f"process {holder.pid} " in (tmp_path / LOCK_NAME).read_text()
        with only_writer(tmp_path):
            assert (tmp_path / LOCK_NAME).read_text().startswith(f"process {os.getpid()} ")
    assert contents(tmp_path) == {}


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path):
    with pytest.raises(ValueError, match="nothing"), only_writer(tmp_path / "made"):
        raise ValueError("nothing to write")
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="nothing"), only_writer(tmp_path / "there"):
        raise ValueError("nothing to write")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_processes_that_come_and_go_never_meet(tmp_path):
    command = [sys.executable, "-c", VISITOR, tmp_path / "folder", "200"]
    visitors = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
    for visitor in visitors:
        _, said = visitor.communicate(timeout=60)
        assert visitor.returncode == 0, said.decode()


WRITER = """
import sys
from pathlib import Path
from frozenalign.system.files import replacing
from frozenalign.system.locks import only_writer
folder = Path(sys.argv[1])
with only_writer(folder), replacing(folder / "output.pt") as temporary:
    temporary.write_text("half of it")
    print("half", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_unfinished_goes_with_the_next_one(tmp_path):
    (tmp_path / "output.pt").write_text("an earlier one")
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"half\n"
        writer.kill()
    assert "half of it" in [path.read_text() for path in tmp_path.glob(".unfinished-output-*.pt")]
    with only_writer(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK_NAME, "output.pt"]
    assert (tmp_path / "output.pt").read_text() == "an earlier one"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_without_locks_nothing_is_deleted_that_another_process_may_be_writing(number, tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / ".unfinished-output-1.pt").write_text("half of it")
    with only_writer(tmp_path):
        pass
    assert (tmp_path / ".unfinished-output-1.pt").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_gets_a_warning(number, tmp_path, monkeypatch, caplog):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING), only_writer(tmp_path):
        (tmp_path / "output").touch()
    assert f"{tmp_path}: this file system has no locks" in caplog.text
    assert list(contents(tmp_path)) == ["output"]


@pytest.mark.parametrize(
    "name", ["split", "train", "baselines", "evaluate", "evaluate_part", "ensemble", "tune", "report"]
)
def test_every_script_leaves_a_folder_alone_that_another_process_writes(name, chain: Chain, tmp_path):
    output = tmp_path / name
    shutil.copytree(chain.results / name, output)
    before = contents(output)
    held = output / "ridge" / "seed0" if name == "baselines" else output
    with another_process_in(held) as holder:
        with pytest.raises(UserError, match=f"process {holder.pid} on .* writes to {held}: wait for it, or stop it"):
            chain.steps[name].run(output)
        assert {path: text for path, text in contents(output).items() if Path(path).name != LOCK_NAME} == before


def test_demo_data_are_not_written_twice_at_a_time(tmp_path):
    with another_process_in(tmp_path), pytest.raises(UserError, match="writes to"):
        demo_data.main(["--images", "10", "--output-dir", str(tmp_path)])
