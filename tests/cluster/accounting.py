"""Accounting for a cluster: a database of its own, and Slurm's daemon on it."""

import getpass
import subprocess
from pathlib import Path

from tests.cluster.daemons import Daemons, NotStartedError, answer, await_start

NEEDED = ("slurmdbd", "mariadbd", "mariadb-install-db")
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


def start_accounting(folder: Path, daemons: Daemons, port: int, database_port: int) -> None:
    """Start a database and Slurm's daemon on it; raises `NotStartedError`."""
    user = getpass.getuser()
    _start_database(folder, daemons, user, database_port)
    path = folder / "slurmdbd.conf"
    path.write_text(DATABASE_DAEMON.format(folder=folder, user=user, port=port, database_port=database_port))
    path.chmod(0o600)
    daemons.start("slurmdbd", "-D")
    await_start("accounting", lambda: answer(folder, "sacctmgr", "-n", "show", "cluster") is not None, folder)
    for entity in (["cluster", "toy"], ["account", "lab"], ["user", user, "account=lab"]):
        answer(folder, "sacctmgr", "-i", "add", *entity)


def _start_database(folder: Path, daemons: Daemons, user: str, port: int) -> None:
    data, database = folder / "database", folder / "database.socket"
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
    where = [f"--datadir={data}", f"--socket={database}", f"--port={port}", "--bind-address=127.0.0.1"]
    daemons.start("mariadbd", "--no-defaults", f"--user={user}", *where, *sizes)
    client = ["mariadb", "--no-defaults", "-S", str(database), "-u", "root", "-e"]
    await_start("database", lambda: not subprocess.run([*client, "select 1"], capture_output=True).returncode, folder)
    subprocess.run([*client, DATABASE_USERS], check=True, capture_output=True)
