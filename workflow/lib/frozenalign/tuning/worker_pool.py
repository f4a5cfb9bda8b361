"""Worker processes that one coordinator starts, replaces and stops; they never outlive it."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection, forkserver
from typing import Any

import torch.multiprocessing


def prepare_workers(module: str) -> None:
    """Start importing a module for worker processes, in the background.

    A fork server imports PyTorch once for all workers, and a worker inherits no thread and no CUDA context.
    """
    # Before Python 3.14 a fork server does not take over sys.path, and would import a library that pip has installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    torch.multiprocessing.get_context("forkserver").set_forkserver_preload([module])
    forkserver.ensure_running()


class WorkerPool(dict[int, Any]):
    """The processes that run one function, numbered in the order of their start.

    target: called as target(number, *arguments), with the next of `numbers`. Leaving the block kills the workers that
    still run.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any, numbers: Iterator[int]) -> None:
        super().__init__()
        self._target, self._arguments, self._numbers = target, arguments, numbers

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.values():
            worker.kill()
        for worker in self.values():
            worker.join()

    def start(self) -> None:
        """Start one more worker."""
        number = next(self._numbers)
        arguments = (self._target, number, *self._arguments)
        context = torch.multiprocessing.get_context("forkserver")
        worker = context.Process(target=_run_worker, args=arguments, daemon=True)
        worker.start()
        self[number] = worker

    def wait(self) -> None:
        """Wait until a worker has ended, without taking processor time from those that run."""
        connection.wait([worker.sentinel for worker in self.values()])

    def take_ended(self) -> dict[int, int]:
        """Remove the workers that ended since the last call and return their exit codes by number."""
        ended = [number for number, worker in self.items() if not worker.is_alive()]
        return {number: self.pop(number).exitcode for number in ended}


def _run_worker(target: Callable[..., None], number: int, *arguments: Any) -> None:
    # Ctrl-C reaches all processes of a terminal: only the coordinator handles it, and stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_coordinator, daemon=True).start()
    target(number, *arguments)


def _end_with_the_coordinator() -> None:
    """Wait until the coordinator has ended, for whatever reason, and end this process at once."""
    multiprocessing.parent_process().join()
    os._exit(1)
