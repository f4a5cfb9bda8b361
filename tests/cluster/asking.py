"""A cluster that runs, as a test asks it, and what a test does to its jobs and nodes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

PLUGINS = Path(sys.prefix, "cluster-plugins")


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs: the folder of its files."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which its commands, this Python and the plugins are found."""
        path = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        return os.environ | {"PATH": path, "PYTHONPATH": str(PLUGINS)}

    def ask(self, command: str, *arguments: str) -> str:
        """Return what a command of the cluster prints."""
        done = subprocess.run([self.folder / "bin" / command, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def jobs(self, form: str, *arguments: str) -> list[list[str]]:
        """Return the fields of `squeue --format`, divided by `|`, for each job that the cluster knows."""
        said = self.ask("squeue", "--noheader", f"--format={form}", *arguments)
        return [line.split("|") for line in said.splitlines()]

    def job_of(self, seed: int) -> tuple[str, str]:
        """Return the id and the node of the running training of a seed, once there is one."""

        def found() -> list[list[str]]:
            # The slurm profile tells a job by its comment; where there is none, only one training runs.
            rows = self.jobs("%i|%k|%N|%j", "--states=R")
            return [row for row in rows if row[1].endswith(f"train_wildcards_tiny_slow_{seed}") or row[3] == "train"]

        wait_for(f"training of seed {seed}", found)
        job, _, node, _ = found()[0]
        return job, node

    def state(self, job: str) -> str:
        """Return the state of a job that the cluster knows."""
        return "".join(state for (state,) in self.jobs("%T", f"--jobs={job}", "--states=all"))

    def restarts(self, job: str) -> int:
        """Return how often Slurm itself has started a job again."""
        facts = dict(word.partition("=")[::2] for word in self.ask("scontrol", "show", "job", job).split())
        return int(facts["Restarts"])

    def hurry(self, job: str) -> None:
        """Start a job that Slurm has put into the queue again at once, which it would do after two minutes."""
        wait_for(f"job {job} in the queue again", lambda: self.state(job) == "PENDING")
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    def make_room(self, node: str) -> str:
        """Submit a job that takes a whole node from the jobs on it, and return its id."""
        whole = ["--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null"]
        return self.ask("sbatch", "--parsable", *whole, "--wrap=sleep 600")

    def close(self, *nodes: str) -> None:
        """Start no more jobs on nodes; those that run there stay."""
        for node in nodes:
            self.ask("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")

    def open(self, node: str) -> None:
        """Start jobs again on a node that was closed."""
        self.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def lose(self, node: str) -> None:
        """Kill a node: its daemon, and all processes that it has started, without a word to any."""
        jobs = {job.encode() for (job,) in self.jobs("%A", f"--nodelist={node}", "--states=R,CG")}
        os.kill(int((self.folder / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            ours = f"SLURM_CONF={self.folder}/slurm.conf".encode() in variables
            step = re.match(rb"slurmstepd: \[(\d+)\.", command)
            if ours and (f"SLURMD_NODENAME={node}".encode() in variables or (step and step[1] in jobs)):
                os.kill(int(process.name), signal.SIGKILL)


def wait_for(what: str, is_there: Callable[[], object], seconds: float = 120, every: float = 0.3) -> None:
    """Wait until something is there, and look for it every so many seconds."""
    until = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > until:
            pytest.fail(f"no {what} within {seconds} s")
        time.sleep(every)
