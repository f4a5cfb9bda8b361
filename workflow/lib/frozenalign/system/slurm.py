"""What a Slurm cluster gives its jobs, asked with its own commands while a profile is read."""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass

from frozenalign.system.errors import UserError

COMMANDS = ("sinfo", "squeue", "sbatch", "scontrol", "scancel")
SECONDS = 30
# The longest that the slurm plugin waits between two questions; it never hears of a job that is forgotten by then.
LONGEST_WAIT = 180


@dataclass(frozen=True)
class Nodes:
    """The most that a node of a partition has: CPUs, memory in MB, and whether any has a GPU."""

    cpus: int
    memory_mb: int
    has_gpu: bool


def refuse_missing(plugin: str) -> None:
    """Raise `UserError` where a plugin of Snakemake or the commands of Slurm are missing."""
    if importlib.util.find_spec(plugin.replace("-", "_")) is None:
        raise UserError(f"{plugin} is not installed: run pip install -r envs/requirements-cluster.txt")
    if lacking := [name for name in COMMANDS if shutil.which(name) is None]:
        raise UserError(
            f"no Slurm here, {', '.join(lacking)} not found: run this on a login node of the cluster, or leave out "
            "--workflow-profile to compute on this machine"
        )


def nodes(partition: str = "") -> Nodes:
    """Return what the nodes of a partition have, by default of the cluster's own; raises `UserError`."""
    rows = [line.split("|") for line in _said("sinfo", "--noheader", "--exact", "--format=%P|%c|%m|%G").splitlines()]
    names = sorted({name.rstrip("*") for name, *_ in rows})
    wanted = [row for row in rows if (row[0].rstrip("*") == partition if partition else row[0].endswith("*"))]
    if partition and not wanted:
        raise UserError(f"partition: {partition} is not one of this cluster's, which are {', '.join(names)}")
    # Without a default partition sbatch itself asks for one.
    found = wanted or rows
    if not found:
        raise UserError("sinfo lists no nodes: check `sinfo`, or ask the cluster's administrators")
    cpus, memory = ([int(re.match(r"\d+", row[column])[0]) for row in found] for column in (1, 2))
    return Nodes(max(cpus), max(memory), any(re.search(r"\bgpu\b", gres) for *_, gres in found))


def refuse_forgetful() -> None:
    """Raise `UserError` for a cluster that forgets a job before the slurm plugin asks how it ended.

    The plugin would wait for such a job for ever, without a word.
    """
    age = re.search(r"^MinJobAge\s*=\s*(\d+)", _settings(), re.MULTILINE)
    if age and int(age[1]) <= LONGEST_WAIT:
        raise UserError(
            f"this cluster forgets a job {age[1]} s after its end (MinJobAge), and the slurm plugin may ask only every "
            f"{LONGEST_WAIT} s: use --workflow-profile profiles/generic, which asks every 10 s"
        )


def refuse_ended_for_others(partition: str = "") -> None:
    """Raise `UserError` for a partition, by default the cluster's own, that ends jobs for good to make room for others.

    The slurm plugin takes such a job for one that still runs, and waits for ever, without a word. Where a QoS decides
    which jobs make room, nothing is known.
    """
    if not re.search(r"^PreemptType\s*=\s*preempt/partition_prio", _settings(), re.MULTILINE):
        return
    rows = _said("scontrol", "--oneliner", "show", "partition").splitlines()
    found = [dict(word.partition("=")[::2] for word in row.split()) for row in rows]
    highest = max((int(each["PriorityTier"]) for each in found), default=0)
    for each in found:
        is_used = each["PartitionName"] == partition if partition else each["Default"] == "YES"
        makes_room = int(each["PriorityTier"]) < highest and "CANCEL" in each["PreemptMode"].split(",")
        if is_used and makes_room:
            raise UserError(
                f"partition {each['PartitionName']} ends a job for good to make room for another "
                "(PreemptMode=CANCEL), of which the slurm plugin never hears: use --workflow-profile profiles/generic, "
                "which submits it again, or set another `partition`"
            )


def _settings() -> str:
    """Return the configuration of the cluster, a key a line."""
    return _said("scontrol", "show", "config")


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=SECONDS, check=True)
    except subprocess.TimeoutExpired:
        raise UserError(f"`{' '.join(command)}` has not answered within {SECONDS} s: try again later") from None
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split())
        raise UserError(f"`{' '.join(command)}` fails, so this cluster cannot be used now: {said}") from None
    return done.stdout
