"""The memory that a computation holds, counted in the tensors that it makes."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def most_held(compute: Callable[[], object]) -> int:
    """Return the most bytes of tensors that a call makes and that are alive at a time."""
    with _Held() as held:
        compute()
    return held.most


class _Held(TorchDispatchMode):
    """Counts the bytes of tensors made since it began that are alive at a time, and the most of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, operation, types, arguments=(), named=None) -> Any:
        given = {_storage(each) for each in tree_leaves((arguments, named)) if isinstance(each, Tensor)}
        made = operation(*arguments, **(named or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor) and _storage(each) not in self.known | given:
                self._count(each.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        self.known.add(address)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._end, address, size)

    def _end(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.now -= size


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
