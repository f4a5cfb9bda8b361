"""Memory shared between real processes: written once, there as long as one of them runs, gone with the last."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from frozenalign.system.shared_memory import is_shared, shared_bytes

CONTENT = bytes(range(256)) * 64
HOLD = """
import sys
from pathlib import Path
from frozenalign.system.shared_memory import shared_bytes
content = bytes(range(256)) * 64
pages = shared_bytes("rows", len(content), lambda put: [print("wrote"), put(memoryview(content), 0)], Path(sys.argv[1]))
print(pages[:] == content, flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that holds the bytes `rows` until it is killed."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wrote(self) -> bool:
        """Return whether it wrote the bytes, once it has seen that they are the right ones."""
        line = self.process.stdout.readline()
        wrote = line == "wrote\n"
        assert (self.process.stdout.readline() if wrote else line) == "True\n"
        return wrote

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def hold(tmp_path):
    started = []

    def start() -> Holder:
        started.append(Holder(tmp_path))
        return started[-1]

    yield start
    for holder in started:
        holder.kill()


def written(_):
    raise AssertionError("written again")


def test_of_processes_that_start_together_one_writes(hold):
    holders = [hold() for _ in range(4)]
    assert sum(holder.wrote() for holder in holders) == 1


def test_bytes_outlive_the_process_that_wrote_them_and_end_with_the_last_holder(hold, tmp_path):
    first = hold()
    assert first.wrote()
    second = hold()
    assert not second.wrote()
    first.kill()
    assert is_shared("rows", tmp_path)
    third = hold()
    assert not third.wrote()
    second.kill()
    third.kill()
    assert not is_shared("rows", tmp_path)
    assert hold().wrote()


def test_a_process_shares_with_itself_and_lets_go(tmp_path):
    pages = shared_bytes("own", 5, lambda put: put(memoryview(b"bytes"), 0), tmp_path)
    again = shared_bytes("own", 5, written, tmp_path)
    assert pages[:] == again[:] == b"bytes"
    assert is_shared("ow", tmp_path)
    del pages, again
    assert not is_shared("own", tmp_path)


def test_shared_bytes_cannot_be_written_to(tmp_path):
    pages = shared_bytes("own", 5, lambda put: put(memoryview(b"bytes"), 0), tmp_path)
    with pytest.raises(TypeError):
        pages[0] = 1


def test_threads_may_put_parts_in_any_order(tmp_path):
    def write(put):
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(lambda at: put(memoryview(CONTENT)[at : at + 100], at), reversed(range(0, len(CONTENT), 100)))
            )

    assert shared_bytes("parts", len(CONTENT), write, tmp_path)[:] == CONTENT


def test_a_list_of_holders_that_is_damaged_or_names_other_files_is_passed_over(tmp_path):
    with (tmp_path / "other").open("wb") as stream:
        (tmp_path / "shared-own").write_text(f"nonsense\n1 999\n{stream.fileno()} \n")
        pages = shared_bytes("own", 5, lambda put: put(memoryview(b"bytes"), 0), tmp_path)
    assert pages[:] == b"bytes"


def test_a_failed_writing_leaves_nothing(tmp_path):
    def fail(put):
        put(memoryview(b"by"), 0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        shared_bytes("own", 5, fail, tmp_path)
    assert not is_shared("own", tmp_path)
    assert shared_bytes("own", 5, lambda put: put(memoryview(b"bytes"), 0), tmp_path)[:] == b"bytes"
