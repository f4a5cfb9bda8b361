"""How the processes of one training are started, on one machine or by others on several, and how they end."""

import contextlib
import ctypes
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from frozenalign.system.devices import choose_device, device_type
from frozenalign.system.errors import UserError
from frozenalign.system.processes import ALONE, LOST, Processes, connected

PR_SET_PDEATHSIG = 1
# So long another process waits before it fails: where all fail alike, the first one is to say so.
PRECEDENCE = 2.0
FIRST_PORT, PORTS = 20000, 10000


@dataclass(frozen=True)
class Place:
    """One of `count` processes that were started together."""

    number: int
    count: int

    @classmethod
    def found(cls, environment: Mapping[str, str]) -> "Place | None":
        """Return the place that torchrun, or srun with several tasks, gives in the environment, or none."""
        if "RANK" in environment and "WORLD_SIZE" in environment:
            return cls(int(environment["RANK"]), int(environment["WORLD_SIZE"]))
        if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
            return cls(int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"]))
        return None


def start_processes(count: int, device: str, command: Sequence[str]) -> None:
    """Run a command `count` times on this machine, until all have succeeded, or one has failed and the others ended.

    Only the first process writes to the console; of another one, a failure is shown. After SIGINT or SIGTERM, which all
    get, this process ends with the status of that signal.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if ":" in device:
        raise UserError(f"training.devices is {count} but `device: {device}` names one: set `device: cuda`")
    if device_type(device) == "cuda" and (found := torch.cuda.device_count()) < count:
        raise UserError(
            f"training.devices is {count} but this machine has {found} GPU{'s' * (found > 1)}: "
            "take fewer devices, or set `device: cpu`"
        )
    os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // count))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder, _silent():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            max_restarts=0,
            run_id=str(os.getpid()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            logs_specs=DefaultLogsSpecs(folder, redirects=dict.fromkeys(range(1, count), Std.ALL)),
        )
        try:
            elastic_launch(config, command[0])(*command[1:])
        except SignalException as interruption:
            sys.exit(128 + interruption.sigval)
        except ChildFailedError as error:
            statuses = {number: failure.exitcode for number, failure in error.failures.items()}
            _end_as(statuses, Path(folder))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Log nothing within a block: the started processes do."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _end_as(statuses: Mapping[int, int], folder: Path) -> None:
    """End this process as the one did whose end was not due to another's; `folder` holds what they wrote."""
    number = min(statuses, key=lambda number: (statuses[number] == LOST, number))
    status = statuses[number]
    if status < 0:
        name = signal.Signals(-status).name
        raise UserError(f"{name} ended process {number + 1} of the training: run the same command again to go on")
    if number:
        sys.stderr.write(
            "".join(path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob(f"{number}/stderr.log"))
        )
    sys.exit(status)


@contextlib.contextmanager
def joined(count: int, device: str) -> Iterator[Processes]:
    """Join the other processes of a training during a block; one process alone has none to join.

    All but the first are silent, leave signals to it, and end when it ends.
    """
    if count == 1:
        yield ALONE
        return
    place = Place.found(os.environ)
    if place.count != count:
        raise UserError(f"training.devices is {count} but {place.count} processes were started: start {count}")
    if device_type(device) == "mps":
        raise UserError("training.devices is above 1, which device: mps cannot do: set `device: cpu`")
    # The processes of one machine take different GPUs, before they connect.
    choose_device(device)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.update(_meeting_point(os.environ))
    with _in_the_background(place.number > 0), connected(place.number, count) as processes:
        if not processes.first:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        yield processes


def _meeting_point(environment: Mapping[str, str]) -> dict[str, str]:
    """Return MASTER_ADDR and MASTER_PORT, which Slurm does not set: the first node of a step, a port by its job."""
    if "MASTER_ADDR" in environment:
        return {}
    first, digits = re.match(r"([^,[]+)(?:\[(\d+))?", environment["SLURM_STEP_NODELIST"]).groups("")
    port = FIRST_PORT + int(environment["SLURM_JOB_ID"]) % PORTS
    return {"MASTER_ADDR": first + digits, "MASTER_PORT": str(port)}


@contextlib.contextmanager
def _in_the_background(background: bool) -> Iterator[None]:
    """Log errors only, and fail after the first process had the time to do so."""
    if not background:
        yield
        return
    logging.getLogger().setLevel(logging.ERROR)
    try:
        yield
    except Exception:
        time.sleep(PRECEDENCE)
        raise
