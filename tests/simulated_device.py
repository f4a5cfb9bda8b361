"""A device that is not there: tensors that claim to be on Apple's GPU and refuse what it refuses.

Their numbers lie in the memory of the CPU, which computes. As on the real device, float64 raises, and so does an
operation that takes a tensor of the CPU beside one of the device; a tensor cannot be shared with another process. What
makes the CPU wait for a real device is counted.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

MPS = torch.device("mps", 0)
# What the dispatcher takes the tensors for: a device whose backward pass runs in the caller's thread.
BELOW = torch.device("lazy")
aten = torch.ops.aten
# Each of them reads results of the device before the CPU goes on.
WAITING = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.bincount,
    aten._unique2,
    aten.unique_dim,
    aten.repeat_interleave,
}
# Their tensors may lie on different devices.
CROSSING = {aten.copy_, aten._to_copy, aten.set_, aten.index, aten.index_put_, aten._index_put_impl_}


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device, around one on the CPU."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnDevice":
        if held.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=BELOW,
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    device = property(lambda self: MPS)

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnDevice({self.held!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert mps:0 device type tensor to numpy. Use Tensor.cpu() to copy it to host memory.")

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.held.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("a tensor of the simulated device outlived it")


def _refuse_to_share(tensor: OnDevice) -> Any:
    raise RuntimeError("_share_filename_: only available on CPU")


# What is sent to another process goes through this pickler; a file may have the tensors.
ForkingPickler.register(OnDevice, _refuse_to_share)


class SimulatedDevice(TorchDispatchMode):
    """The device, within a block; waits: how often each operation made the CPU wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute on the CPU what was asked of the device."""
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
        here = [each for each in tensors if isinstance(each, OnDevice)]
        named = kwargs.get("device")
        asked = named is not None and torch.device(named).type in ("mps", "lazy")
        if not (here or asked):
            return func(*args, **kwargs)
        self._refuse_mixture(func, tensors, here)
        to_cpu = named is not None and not asked
        fetched = to_cpu or (func.overloadpacket is aten.copy_ and not isinstance(args[0], OnDevice))
        sent = asked and bool(tensors) and not here and not kwargs.get("non_blocking")
        if fetched or sent or _waits(func, args):
            self.waits[str(func.overloadpacket).removeprefix("aten.")] += 1
        if asked:
            kwargs["device"] = torch.device("cpu")
        below = tree_map(lambda each: each.held if isinstance(each, OnDevice) else each, (args, kwargs))
        if any(getattr(each, "dtype", each) is torch.float64 for each in tree_flatten(below)[0]) and not to_cpu:
            raise TypeError(f"{func}: the MPS framework doesn't support float64. Please use float32 instead.")
        found = func(*below[0], **below[1])
        if fetched:
            return found
        wrapped = tree_map(lambda each: OnDevice(each) if isinstance(each, torch.Tensor) else each, found)
        return return_and_correct_aliasing(func, args, kwargs, wrapped) if here else wrapped

    def _refuse_mixture(self, func: Any, tensors: list[torch.Tensor], here: list[torch.Tensor]) -> None:
        stray = [each for each in tensors if not isinstance(each, OnDevice) and each.dim()]
        if here and stray and func.overloadpacket not in CROSSING:
            raise RuntimeError(
                f"{func}: Expected all tensors to be on the same device, but found at least two: mps, cpu"
            )


def _waits(func: Any, args: Any) -> bool:
    """Return whether the CPU needs results of the device, as to know how many rows a mask chooses."""
    if func.overloadpacket in (aten.index, aten.index_put_, aten._index_put_impl_):
        return any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1])
    return func.overloadpacket in WAITING


@contextlib.contextmanager
def simulated_device() -> Iterator[SimulatedDevice]:
    """Let this process have the device during a block."""
    generator: dict[str, Callable[..., Any]] = {
        "get_rng_state": lambda: torch.get_rng_state(),
        "set_rng_state": lambda state: torch.set_rng_state(state),
    }
    with (
        mock.patch.multiple(torch.mps, **generator),
        mock.patch.object(torch.backends.mps, "is_available", lambda: True),
        SimulatedDevice() as device,
    ):
        yield device
