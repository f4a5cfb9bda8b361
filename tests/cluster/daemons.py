"""The processes of a cluster: started in the foreground, stopped with whoever started them."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
SECONDS = 30


class NotStartedError(Exception):
    """Why no cluster can be started on this host."""


@dataclass
class Daemons:
    """The processes of a cluster, in the order in which they were started."""

    folder: Path
    running: list[subprocess.Popen] = field(default_factory=list)

    def start(self, *command: str | Path) -> None:
        """Start a daemon in the foreground; it is killed when this process ends."""
        log = (self.folder / f"{Path(command[0]).name}.out").open("ab")
        environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": SYSTEM_PATH}
        # Signals of the terminal are for the tests, which stop the daemons in the right order.
        self.running.append(
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        )

    def stop(self) -> None:
        """Stop all daemons, the last first."""
        for daemon in reversed(self.running):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(5)
            daemon.kill()
            daemon.wait()


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it ends, however that is."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def answer(folder: Path, command: str, *arguments: str) -> str | None:
    """Return what a command of the cluster prints, None where it fails."""
    done = subprocess.run([folder / "bin" / command, *arguments], capture_output=True, text=True, timeout=SECONDS)
    return None if done.returncode else done.stdout.strip()


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def await_start(what: str, is_there: Callable[[], object], folder: Path) -> None:
    """Wait until a daemon answers; raises `NotStartedError` with the last lines of the logs in a folder."""
    until = time.monotonic() + SECONDS
    while not is_there():
        if time.monotonic() > until:
            logs = sorted(folder.glob("*.log"))
            last = [line for log in logs for line in log.read_text(errors="replace").splitlines()[-3:]]
            raise NotStartedError(f"no {what} within {SECONDS} s: {' | '.join(last)}")
        time.sleep(0.1)
