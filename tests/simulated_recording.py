"""Recordings that are not a GPU's: the operations of a computation, in their order, with the tensors they were given.

As on the device, recording computes nothing, a repeated operation has the tensors and the numbers of the recorded one,
and whatever makes the CPU read a result cannot be recorded.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from frozenalign.system import memory
from frozenalign.training import device_steps
from tests.simulated_device import WAITING


class SimulatedRecording(TorchDispatchMode):
    """The operations of a block; after it every tensor is as it was before."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._changed: dict[int, tuple[Tensor, Tensor]] = {}
        self.repeated = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operation and keep it."""
        kwargs = kwargs or {}
        if func.overloadpacket in WAITING:
            raise RuntimeError(f"{func} waits for the device, which cannot be recorded")
        inputs = _tensors((args, kwargs))
        for each in inputs if func._schema.is_mutable else []:
            self._changed.setdefault(_place(each), (_whole(each), _whole(each).clone()))
        found = func(*args, **kwargs)
        known = {_place(each) for each in inputs}
        self.operations.append((func, args, kwargs, [each for each in _tensors(found) if _place(each) not in known]))
        return found

    def undo(self) -> None:
        """Give tensors back what they held before."""
        for tensor, before in self._changed.values():
            tensor.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        """Compute the operations again; their results lie where they lay."""
        self.repeated += 1
        for func, args, kwargs, results in self.operations:
            inputs = {_place(each) for each in _tensors((args, kwargs))}
            found = [each for each in _tensors(func(*args, **kwargs)) if _place(each) not in inputs]
            for old, new in zip(results, found, strict=True):
                old.copy_(new)


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in tree_flatten(values)[0] if isinstance(each, Tensor)]


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _whole(tensor: Tensor) -> Tensor:
    """Return all of the memory that a tensor is a part of."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


@contextlib.contextmanager
def simulated_recording() -> Iterator[list[SimulatedRecording]]:
    """Let the CPU be a device that records, within a block, and yield what was recorded."""
    recordings: list[SimulatedRecording] = []
    recording = False

    def record(compute: Callable[[], None], memory_of: object = None) -> SimulatedRecording:
        nonlocal recording
        made, random = SimulatedRecording(), torch.get_rng_state()
        recording = True
        try:
            with made:
                compute()
        finally:
            recording = False
            made.undo()
            torch.set_rng_state(random)
        recordings.append(made)
        return made

    def random_state(device: torch.device) -> dict[str, Tensor]:
        if recording:
            raise RuntimeError("the state of random numbers is read while they are recorded")
        return {"cpu": torch.get_rng_state()}

    with (
        mock.patch.object(device_steps, "can_record", lambda device: True),
        mock.patch.object(device_steps, "record", record),
        mock.patch.object(memory, "is_recorded", lambda device: recording),
        mock.patch.object(memory, "random_state", random_state),
    ):
        yield recordings
