"""Functions run in several processes that train together."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch

from frozenalign.system.processes import Processes, connected

SECONDS = 120


class Team:
    """Processes that wait for functions; each function gets the `Processes` of the one it runs in."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.several_processes", "frozenalign.training.fit"])
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.pipes, self.members = [], []
        for number in range(count):
            ours, theirs = context.Pipe()
            self.members.append(context.Process(target=_serve, args=(theirs, number, count, port), daemon=True))
            self.pipes.append(ours)
            self.members[-1].start()

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what the function returns in every process."""
        for pipe in self.pipes:
            pipe.send((function, arguments))
        assert all(pipe.poll(SECONDS) for pipe in self.pipes), "a process does not answer"
        return [pipe.recv() for pipe in self.pipes]

    def end(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            pipe.send(None)
        for member in self.members:
            member.join(SECONDS)


def _serve(pipe: Any, number: int, count: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    with connected(number, count) as processes:
        while (task := pipe.recv()) is not None:
            function, arguments = task
            pipe.send(function(processes, *arguments))


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the function returns in a process that trains alone."""
    return function(Processes(), *arguments)
