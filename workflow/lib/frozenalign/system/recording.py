"""Computations of a GPU that are recorded once and then repeated without the CPU launching every kernel."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Recording:
    """A recorded computation, and what was recorded, which holds the tensors that its kernels read and write."""

    compute: Callable[[], None]
    graph: torch.cuda.CUDAGraph

    def replay(self) -> None:
        """Compute once more, with what the same tensors hold by now."""
        self.graph.replay()


def can_record(device: torch.device) -> bool:
    """Return whether computations of a device can be recorded: CUDA has graphs of kernels, and so has ROCm."""
    return device.type == "cuda"


def is_recorded(device: torch.device) -> bool:
    """Return whether what is launched on a device at present is recorded and not computed."""
    return can_record(device) and torch.cuda.is_current_stream_capturing()


def record(compute: Callable[[], None], memory_of: Recording | None = None) -> Recording:
    """Record what `compute` launches on the current CUDA device, without computing it.

    compute: has run before, so that libraries have their workspaces; launches the same kernels each time, neither waits
    for the device nor sends it numbers. memory_of: an earlier recording that never runs at the same time and gives its
    memory to this one as well. What cannot be recorded is a RuntimeError.
    """
    graph = torch.cuda.CUDAGraph()
    pool = memory_of.graph.pool() if memory_of else None
    # In its own thread alone, so that another one may allocate memory meanwhile.
    with torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
        compute()
    return Recording(compute, graph)
