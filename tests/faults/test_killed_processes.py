"""A training on two devices, one of whose processes is killed, or that is told to stop, ends and can go on."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.test_killed_runs import ENVIRONMENT, ROOT, finish, results, started, train_command


def two_devices(folder: Path, data_dir: Path, split_dir: Path) -> list[str]:
    folder.mkdir()
    changes = ["--set", "training.devices=2", "--set", "training.num_epochs=12"]
    return [*train_command(folder, data_dir, split_dir), *changes]


def processes_of(launcher: int) -> list[int]:
    """Return the numbers of the processes that a training has started, in their order."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text(encoding="utf-8")
    return sorted(map(int, children.split()))


def wait_for_the_end(process: subprocess.Popen, members: list[int]) -> int:
    """Return the exit status of a training that has to end within ten seconds, with its processes."""
    deadline = time.monotonic() + 10
    status = process.wait(timeout=10)
    while left := [number for number in members if Path(f"/proc/{number}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    return status


def test_a_training_on_two_devices_killed_and_told_to_stop_ends_bit_for_bit(data_dir, split_dir, tmp_path):
    undisturbed = two_devices(tmp_path / "undisturbed", data_dir, split_dir)
    finish(undisturbed)
    command, log = two_devices(tmp_path / "disturbed", data_dir, split_dir), tmp_path / "log"

    process = started(command, log, until="epoch 2/")
    members = processes_of(process.pid)
    os.kill(members[1], signal.SIGKILL)
    assert wait_for_the_end(process, members) == 1
    last = log.read_text().splitlines()[-1]
    assert last == "error: SIGKILL ended process 2 of the training: run the same command again to go on"

    process = started(command, log, until="val RSUM")
    members = processes_of(process.pid)
    process.send_signal(signal.SIGTERM)
    assert wait_for_the_end(process, members) == 128 + signal.SIGTERM
    assert log.read_text().splitlines()[-1].startswith("interrupted: in epoch ")

    finish(command)
    assert results(tmp_path / "disturbed" / "run") == results(tmp_path / "undisturbed" / "run")
    assert not (tmp_path / "disturbed" / "run" / "checkpoint.pt").exists()


@pytest.mark.soak
def test_the_processes_end_with_the_one_that_started_them(data_dir, split_dir, tmp_path):
    process = started(two_devices(tmp_path / "run", data_dir, split_dir), tmp_path / "log", until="epoch 2/")
    members = processes_of(process.pid)
    process.kill()
    assert wait_for_the_end(process, members) == -signal.SIGKILL


def test_an_error_of_all_processes_is_shown_once(data_dir, split_dir, tmp_path):
    command = [*two_devices(tmp_path / "run", data_dir, split_dir), "--set", "training.learning_rate=1e30"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
