"""Run a command and print the processor seconds of it and of every process that it started (Linux), as JSON."""

import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# linux/prctl.h: processes whose parent has ended become children of this one.
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Spent:
    """What commands took."""

    seconds: float = 0.0
    processor_seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.processor_seconds + other.processor_seconds)


def spent_by(command: Sequence[str], **options: Any) -> Spent:
    """Run a command that must succeed and return what it took; options: those of `subprocess.run`.

    A process of its own watches it, which has no other children.
    """
    watched = [sys.executable, "-I", __file__, *command]
    done = subprocess.run(watched, check=True, capture_output=True, encoding="utf-8", **options)
    return Spent(**json.loads(done.stdout))


def main() -> int:
    """Run the command of the arguments."""
    began = time.perf_counter()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
    seconds = time.perf_counter() - began
    # A fork server ends a moment after its program, and what its processes took is known then.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"seconds": seconds, "processor_seconds": usage.ru_utime + usage.ru_stime}))
    return code


if __name__ == "__main__":
    sys.exit(main())
