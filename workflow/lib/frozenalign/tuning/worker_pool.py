"""Worker processes that are counted, replaced and stopped by one coordinator, and never outlive it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import forkserver
from typing import Any

import torch.multiprocessing


def prepare_workers(module: str) -> None:
    """Start importing a module for worker processes, in the background.

    A fork server imports PyTorch once for all workers, and a worker inherits no thread and no CUDA context.
    """
    torch.multiprocessing.get_context("forkserver").set_forkserver_preload([module])
    forkserver.ensure_running()


class WorkerPool:
    """Processes that run one function, numbered in the order of their start.

    target: called as target(number, *arguments). Leaving the block kills the workers that are still there.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._target, self._arguments = target, arguments
        self._context = torch.multiprocessing.get_context("forkserver")
        self._workers: dict[int, Any] = {}
        self._started = 0

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.kill()
        for worker in self._workers.values():
            worker.join()

    def __len__(self) -> int:
        return len(self._workers)

    def start(self) -> None:
        """Start one more worker."""
        arguments = (self._target, self._started, *self._arguments)
        worker = self._context.Process(target=_run_worker, args=arguments, daemon=True)
        worker.start()
        self._workers[self._started] = worker
        self._started += 1

    def take_ended(self) -> dict[int, int]:
        """Forget the workers that ended since the last call and return their exit codes by number."""
        ended = {number: worker.exitcode for number, worker in self._workers.items() if not worker.is_alive()}
        for number in ended:
            del self._workers[number]
        return ended


def _run_worker(target: Callable[..., None], number: int, *arguments: Any) -> None:
    # Control-C reaches the whole terminal: the coordinator answers it and stops the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_coordinator, daemon=True).start()
    target(number, *arguments)


def _end_with_the_coordinator() -> None:
    """Wait until the coordinator is gone, however it ended, and end this process at once."""
    multiprocessing.parent_process().join()
    os._exit(1)
