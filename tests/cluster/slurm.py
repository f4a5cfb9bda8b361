"""A real Slurm on one host, without root, systemd or control groups: its daemons as children of one process.

`python -m tests.cluster.slurm FOLDER` starts it, prints `ready`, and stops it at the end of its standard input, which
comes when whoever started it is gone, even killed. Daemons end with this process, even if it is killed. Nothing outside
FOLDER is written: the commands in FOLDER/bin find the configuration there.
"""

import argparse
import contextlib
import ctypes
import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
ACCOUNTING_DAEMONS = ("slurmdbd", "mariadbd", "mariadb-install-db")
COMMANDS = ("sinfo", "squeue", "sbatch", "srun", "scancel", "scontrol", "sacct", "sacctmgr", "sshare")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
# Character devices that are everywhere stand for GPUs: Slurm wants a device for each.
GPU_DEVICES = ("/dev/null", "/dev/zero")
SECONDS = 30

CONFIGURATION = """
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
MinJobAge={forgets_after}
KillWait=5
SlurmdTimeout=10
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
EnforcePartLimits=ALL
PartitionName=main Nodes=ALL Default=YES DefMemPerCPU=500 MaxTime=2000 State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory_mb}{gres}"
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
"""
DATABASE_DAEMON = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""
DATABASE_USERS = "".join(
    f"create user slurm@'{host}' identified by 'slurm'; grant all on slurm_acct_db.* to slurm@'{host}';"
    for host in ("127.0.0.1", "localhost")
)
# The slurm plugin drops SLURM_CONF within jobs: these commands find the configuration without it.
COMMAND = """#!/bin/sh
export SLURM_CONF={folder}/slurm.conf
exec {command} "$@"
"""


class NotStartedError(Exception):
    """Why no cluster can be started on this host."""


@dataclass(frozen=True)
class Plan:
    """A cluster: where its files lie, how many nodes of what size it has, and whether it keeps accounts."""

    folder: Path
    nodes: int = 2
    cpus: int = 2
    memory_mb: int = 8000
    gpus: bool = False
    accounting: bool = False
    forgets_after: int = 300

    @property
    def names(self) -> list[str]:
        """Return the names of the nodes."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]


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


def missing(accounting: bool = False) -> list[str]:
    """Return what a cluster needs and this host lacks."""
    names = [*DAEMONS, *(ACCOUNTING_DAEMONS if accounting else ()), *COMMANDS]
    return [name for name in names if shutil.which(name, path=SYSTEM_PATH) is None]


def start(plan: Plan, daemons: Daemons) -> None:
    """Start a cluster; raises `NotStartedError`."""
    if lacking := missing(plan.accounting):
        raise NotStartedError(f"not installed: {', '.join(lacking)}")
    for name in ("bin", "state", *(f"spool/{node}" for node in plan.names)):
        (plan.folder / name).mkdir(parents=True)
    _write_commands(plan.folder)
    database_port, accounting_port, controller_port, *node_ports = _free_ports(3 + plan.nodes)
    _write_configuration(plan, accounting_port, controller_port, node_ports)
    _start_munge(plan.folder, daemons)
    if plan.accounting:
        _start_accounting(plan.folder, daemons, accounting_port, database_port)
    daemons.start("slurmctld", "-D")
    if plan.accounting:
        _wait_for("the controller", lambda: _answers(plan.folder, "sinfo"))
    for node in plan.names:
        daemons.start("slurmd", "-D", "-N", node)
    idle = "\n".join(["idle"] * plan.nodes)
    _wait_for("idle nodes", lambda: _answers(plan.folder, "sinfo", "-h", "-N", "-o", "%T") == idle, plan.folder)


def _write_commands(folder: Path) -> None:
    for name in COMMANDS:
        path = folder / "bin" / name
        command = shutil.which(name, path=SYSTEM_PATH)
        path.write_text(COMMAND.format(folder=folder, command=command), encoding="utf-8")
        path.chmod(0o755)


def _write_configuration(plan: Plan, accounting_port: int, controller_port: int, node_ports: list[int]) -> None:
    host, gres = socket.gethostname().partition(".")[0], " Gres=gpu:1" if plan.gpus else ""
    general = CONFIGURATION.format(
        host=host,
        user=getpass.getuser(),
        folder=plan.folder,
        controller_port=controller_port,
        forgets_after=plan.forgets_after,
    )
    nodes = [
        NODE.format(name=name, host=host, port=port, cpus=plan.cpus, memory_mb=plan.memory_mb, gres=gres)
        for name, port in zip(plan.names, node_ports, strict=True)
    ]
    accounting = ACCOUNTING.format(folder=plan.folder, port=accounting_port) if plan.accounting else ""
    gpus = "GresTypes=gpu\n" if plan.gpus else ""
    text = accounting + gpus + "\n".join(nodes) + general
    (plan.folder / "slurm.conf").write_text(text, encoding="utf-8")
    devices = [f"NodeName={name} Name=gpu File={GPU_DEVICES[i % 2]}" for i, name in enumerate(plan.names)]
    (plan.folder / "gres.conf").write_text("\n".join(devices if plan.gpus else []) + "\n", encoding="utf-8")


def _start_munge(folder: Path, daemons: Daemons) -> None:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(stat.S_IRUSR)
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munged.pid"}
    files |= {"log-file": folder / "munged.log", "seed-file": folder / "munge.seed"}
    daemons.start("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items()))
    _wait_for("munge", lambda: (folder / "munge.socket").exists(), folder)


def _start_accounting(folder: Path, daemons: Daemons, port: int, database_port: int) -> None:
    """Start a database and Slurm's daemon on it."""
    user, data, database = getpass.getuser(), folder / "database", folder / "database.socket"
    made = subprocess.run(
        [
            *("mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={user}", "--skip-test-db"),
            *("--auth-root-authentication-method=socket", f"--auth-root-socket-user={user}"),
        ],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise NotStartedError(f"mariadb-install-db failed: {made.stderr.strip()[-200:]}")
    sizes = ["--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"]
    where = [f"--datadir={data}", f"--socket={database}", f"--port={database_port}", "--bind-address=127.0.0.1"]
    daemons.start("mariadbd", "--no-defaults", f"--user={user}", *where, *sizes)
    client = ["mariadb", "--no-defaults", "-S", str(database), "-u", "root", "-e"]
    _wait_for("the database", lambda: subprocess.run([*client, "select 1"], capture_output=True).returncode == 0)
    subprocess.run([*client, DATABASE_USERS], check=True, capture_output=True)
    path = folder / "slurmdbd.conf"
    path.write_text(DATABASE_DAEMON.format(folder=folder, user=user, port=port, database_port=database_port))
    path.chmod(0o600)
    daemons.start("slurmdbd", "-D")
    _wait_for("accounting", lambda: _answers(folder, "sacctmgr", "-n", "show", "cluster") is not None, folder)
    for entity in (["cluster", "toy"], ["account", "lab"], ["user", user, "account=lab"]):
        _answers(folder, "sacctmgr", "-i", "add", *entity)


def _answers(folder: Path, command: str, *arguments: str) -> str | None:
    """Return what a command of the cluster prints, None where it fails."""
    done = subprocess.run([folder / "bin" / command, *arguments], capture_output=True, text=True, timeout=SECONDS)
    return None if done.returncode else done.stdout.strip()


def _free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(what: str, is_there, folder: Path | None = None) -> None:
    until = time.monotonic() + SECONDS
    while not is_there():
        if time.monotonic() > until:
            logs = sorted(folder.glob("*.log")) if folder else []
            last = [line for log in logs for line in log.read_text(errors="replace").splitlines()[-3:]]
            raise NotStartedError(f"no {what} within {SECONDS} s: {' | '.join(last)}")
        time.sleep(0.1)


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
