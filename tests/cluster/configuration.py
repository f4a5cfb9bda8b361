"""The files that configure a cluster, written to its own folder."""

import getpass
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.daemons import SYSTEM_PATH

COMMANDS = ("sinfo", "squeue", "sbatch", "srun", "scancel", "scontrol", "sacct", "sacctmgr", "sshare")
# Character devices that are everywhere stand for GPUs: Slurm wants a device for each.
GPU_DEVICES = ("/dev/null", "/dev/zero")
# A job of `urgent` takes a node from those of the other partitions, which are started again, of `cheap` ended.
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
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge={forgets_after}
KillWait=30
SlurmdTimeout=10
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
EnforcePartLimits=ALL
PartitionName=main Nodes=ALL Default=YES DefMemPerCPU=500 MaxTime=2000 State=UP
PartitionName=cheap Nodes=ALL DefMemPerCPU=500 MaxTime=2000 State=UP PreemptMode=CANCEL
PartitionName=urgent Nodes=ALL DefMemPerCPU=500 MaxTime=2000 State=UP PriorityTier=2
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
# The slurm plugin drops SLURM_CONF within jobs: these commands find the configuration without it.
COMMAND = """#!/bin/sh
export SLURM_CONF={folder}/slurm.conf
exec {command} "$@"
"""


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


def write_commands(folder: Path) -> None:
    """Write the commands that ask this cluster, whatever the environment says."""
    for name in COMMANDS:
        path = folder / "bin" / name
        command = shutil.which(name, path=SYSTEM_PATH)
        path.write_text(COMMAND.format(folder=folder, command=command), encoding="utf-8")
        path.chmod(0o755)


def write_configuration(plan: Plan, accounting_port: int, controller_port: int, node_ports: list[int]) -> None:
    """Write slurm.conf and gres.conf."""
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
