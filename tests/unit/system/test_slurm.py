"""A profile learns from Slurm's own commands what the cluster has; what is missing is one sentence."""

import os
from pathlib import Path

import pytest

from frozenalign.system import slurm
from frozenalign.system.errors import UserError
from frozenalign.system.slurm import Nodes

SINFO = """main*|64|256000+|(null)
main*|128|128000|(null)
gpus|32|512000|gpu:a100:4(S:0-1)
tiny|2|8000|gpuish:1
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Commands of Slurm that print what they are told to."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def answer(command: str, text: str, status: int = 0) -> None:
        said = Path(tmp_path, f"{command}.txt")
        said.write_text(text, encoding="utf-8")
        script = Path(tmp_path, command)
        script.write_text(f"#!/bin/sh\ncat '{said}' >&{1 if status == 0 else 2}\nexit {status}\n", encoding="utf-8")
        script.chmod(0o755)

    return answer


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        ("", Nodes(cpus=128, memory_mb=256000, has_gpu=False)),
        ("gpus", Nodes(cpus=32, memory_mb=512000, has_gpu=True)),
        ("tiny", Nodes(cpus=2, memory_mb=8000, has_gpu=False)),
    ],
)
def test_the_largest_node_is_that_of_the_partition(commands, partition, expected):
    commands("sinfo", SINFO)
    assert slurm.nodes(partition) == expected


def test_without_a_default_partition_the_largest_node_of_all_counts(commands):
    commands("sinfo", SINFO.replace("*", ""))
    assert slurm.nodes() == Nodes(cpus=128, memory_mb=512000, has_gpu=True)


def test_an_unknown_partition_is_refused_with_the_names_of_those_there_are(commands):
    commands("sinfo", SINFO)
    with pytest.raises(UserError, match="partition: fast is not one of this cluster's, which are gpus, main, tiny"):
        slurm.nodes("fast")


def test_a_controller_that_does_not_answer_is_said(commands):
    commands("sinfo", "slurm_load_partitions: Unable to contact slurm controller\n", status=1)
    with pytest.raises(UserError, match="cannot be used now: slurm_load_partitions: Unable to contact"):
        slurm.nodes()


def test_missing_commands_and_plugins_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no Slurm here, sinfo, squeue, sbatch, scontrol, scancel not found"):
        slurm.refuse_missing("snakemake")
    with pytest.raises(UserError, match="snakemake-executor-plugin-absent is not installed"):
        slurm.refuse_missing("snakemake-executor-plugin-absent")


@pytest.mark.parametrize(("seconds", "refused"), [(300, False), (181, False), (180, True), (60, True)])
def test_a_cluster_that_forgets_jobs_before_the_plugin_asks_is_refused(commands, seconds, refused):
    commands("scontrol", f"MaxJobCount = 10000\nMinJobAge               = {seconds} sec\n")
    if refused:
        with pytest.raises(UserError, match="profiles/generic"):
            slurm.refuse_forgetful()
    else:
        slurm.refuse_forgetful()


PARTITIONS = """PartitionName=main Default=YES PreemptMode=REQUEUE PriorityTier=1 State=UP
PartitionName=cheap Default=NO PreemptMode=GANG,CANCEL PriorityTier=1 State=UP
PartitionName=urgent Default=NO PreemptMode=CANCEL PriorityTier=2 State=UP
"""


@pytest.fixture
def preempting(tmp_path, commands):
    """Return a function that lets scontrol tell how the cluster makes room, and which partitions it has."""

    def tell(how: str, partitions: str) -> None:
        for command, text in (("config", f"MinJobAge = 300 sec\nPreemptType = {how}\n"), ("partition", partitions)):
            commands(command, text)
        # `show config` and `show partition`: the last word decides.
        commands("scontrol", "")
        Path(tmp_path, "scontrol").write_text('#!/bin/sh\nfor last; do :; done\nexec "$last"\n', encoding="utf-8")

    return tell


@pytest.mark.parametrize(
    ("how", "default", "partition", "refused"),
    [
        ("preempt/partition_prio", "main", "cheap", True),
        ("preempt/partition_prio", "cheap", "", True),
        ("preempt/partition_prio", "main", "", False),
        ("preempt/partition_prio", "main", "urgent", False),
        ("preempt/none", "main", "cheap", False),
        ("preempt/qos", "main", "cheap", False),
    ],
)
def test_a_partition_whose_jobs_others_end_for_good_is_refused(preempting, how, default, partition, refused):
    rows = PARTITIONS.replace("Default=YES", "Default=NO")
    preempting(how, rows.replace(f"={default} Default=NO", f"={default} Default=YES"))
    if refused:
        with pytest.raises(UserError, match="partition cheap ends a job for good"):
            slurm.refuse_ended_for_others(partition)
    else:
        slurm.refuse_ended_for_others(partition)
