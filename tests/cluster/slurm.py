"""A real Slurm on one host, without root, systemd or control groups: its daemons as children of one process.

`python -m tests.cluster.slurm FOLDER` starts it, prints `ready`, and stops it at the end of its standard input, which
comes when whoever started it is gone, even killed. Daemons end with this process, even if it is killed. Nothing outside
FOLDER is written: the commands in FOLDER/bin find the configuration there.
"""

import argparse
import getpass
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

from tests.cluster import accounting
from tests.cluster.configuration import COMMANDS, Plan, write_commands, write_configuration
from tests.cluster.daemons import SYSTEM_PATH, Daemons, NotStartedError, answer, await_start, free_ports

NEEDED = ("munged", "slurmctld", "slurmd")


def missing(with_accounting: bool) -> list[str]:
    """Return what a cluster needs and this host lacks."""
    names = [*NEEDED, *(accounting.NEEDED if with_accounting else ()), *COMMANDS]
    return [name for name in names if shutil.which(name, path=SYSTEM_PATH) is None]


def start(plan: Plan, daemons: Daemons) -> None:
    """Start a cluster; raises `NotStartedError`."""
    if lacking := missing(plan.accounting):
        raise NotStartedError(f"not installed: {', '.join(lacking)}")
    for name in ("bin", "state", *(f"spool/{node}" for node in plan.names)):
        (plan.folder / name).mkdir(parents=True)
    write_commands(plan.folder)
    database_port, accounting_port, controller_port, *node_ports = free_ports(3 + plan.nodes)
    write_configuration(plan, accounting_port, controller_port, node_ports)
    _start_munge(plan.folder, daemons)
    if plan.accounting:
        accounting.start_accounting(plan.folder, daemons, accounting_port, database_port)
    daemons.start("slurmctld", "-D")
    if plan.accounting:
        await_start("controller", lambda: answer(plan.folder, "sinfo"), plan.folder)
    for node in plan.names:
        daemons.start("slurmd", "-D", "-N", node)
    await_start("idle nodes", lambda: _states(plan.folder) == {"idle"}, plan.folder)


def _states(folder: Path) -> set[str]:
    """Return the states of the nodes, none while the controller does not answer."""
    return set((answer(folder, "sinfo", "--noheader", "--Node", "--format=%T") or "").split())


def _start_munge(folder: Path, daemons: Daemons) -> None:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(stat.S_IRUSR)
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munged.pid"}
    files |= {"log-file": folder / "munged.log", "seed-file": folder / "munge.seed"}
    daemons.start("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items()))
    await_start("munge", lambda: (folder / "munge.socket").exists(), folder)


def main() -> None:
    """Start a cluster, say so, and stop it at the end of the standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder for its files, on a short path")
    parser.add_argument("--gpus", action="store_true", help="give each node a GPU, which is a device of another kind")
    parser.add_argument("--accounting", action="store_true", help="keep accounts in a database")
    parser.add_argument("--forgets-after", type=int, default=300, help="seconds after which it forgets a finished job")
    arguments = parser.parse_args()
    daemons = Daemons(arguments.folder)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        start(Plan(**vars(arguments)), daemons)
        print("ready", flush=True)
        sys.stdin.read()
    except NotStartedError as error:
        sys.exit(f"not started: {error}")
    finally:
        if (arguments.folder / "slurm.conf").exists():
            subprocess.run([arguments.folder / "bin" / "scancel", "--user", getpass.getuser()], capture_output=True)
        daemons.stop()


if __name__ == "__main__":
    main()
