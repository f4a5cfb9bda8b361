"""What a command takes: seconds, processor seconds, peak memory and the bytes that it reads (Linux).

The command is started by this file, run as a small program of its own: of a process, Linux reports the peak of its
parent as well, until it started.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Of one process and those that it has waited for.

    seconds: by the clock. processor_seconds: user and system. peak_bytes: resident memory of the process itself.
    read_bytes: what its read calls returned, from the page cache or not. disk_bytes: what came from the disk for it,
    pages of mapped files included.
    """

    seconds: float
    processor_seconds: float
    peak_bytes: int
    read_bytes: int
    disk_bytes: int


class CommandError(RuntimeError):
    """A measured command failed."""


def usage_of(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command, whose output goes to a log, and return what it took; raise CommandError if it fails."""
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            [sys.executable, __file__, *command], stdout=subprocess.PIPE, stderr=stream, env=environment, check=False
        )
    if done.returncode:
        raise CommandError(
            f"{' '.join(command)} ended with {done.returncode}; its last lines, from {log}:\n{_tail(log)}"
        )
    return Usage(**json.loads(done.stdout))


def main(command: list[str]) -> int:
    """Run a command, whose output goes to the standard error, print what it took as JSON, and return its status."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=sys.stderr) as child:
        # It is left a zombie until its counters are read.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - began
        counters = _counters(child.pid)
        _, status, taken = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    processor = taken.ru_utime + taken.ru_stime
    usage = Usage(seconds, processor, 1024 * taken.ru_maxrss, counters["rchar"], counters["read_bytes"])
    print(json.dumps(asdict(usage)))
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _counters(process: int) -> dict[str, int]:
    lines = Path(f"/proc/{process}/io").read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
