"""What the pickled description in a .pt archive says, read as data: tensors by their shapes and places.

Only the operations that torch.save writes for tensors in dicts and lists are understood. They are carried out on plain
values here, not by pickle, so that nothing that a description names is imported or called.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

TYPES = {"Half": "float16", "BFloat16": "bfloat16", "Float": "float32", "Double": "float64", "Long": "int64"}


@dataclass(frozen=True)
class SavedTensor:
    """A tensor in an archive, as torch.save describes it.

    number: the name of its number format. record: the name of the record with its storage. offset, size and stride:
    in numbers. location: the device that it was saved on. notes: what else it was, such as a parameter.
    """

    number: str
    record: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    location: str
    notes: tuple[str, ...] = ()

    @property
    def is_contiguous(self) -> bool:
        """Return whether its numbers follow each other, row after row."""
        expected = 1
        for size, stride in zip(reversed(self.size), reversed(self.stride), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


class _Name(NamedTuple):
    """A class or function that a description names."""

    text: str


class _Storage(NamedTuple):
    number: str
    record: str
    location: str


_MARK = object()


def described(content: bytes) -> Any:
    """Return what a description holds: SavedTensor, dict, list, tuple and plain values; else a ValueError names it."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for operation, argument, _ in pickletools.genops(content):
        name = operation.name
        if name == "STOP":
            return stack.pop()
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _LITERALS:
            stack.append(_LITERALS[name](argument))
        elif name in _OPERATIONS:
            _OPERATIONS[name](stack)
        elif name != "PROTO":
            raise ValueError(f"it uses the pickle operation {name}")
    raise ValueError("its description does not end")


_LITERALS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), lambda value: value),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "MARK": lambda _: _MARK,
    "GLOBAL": lambda text: _known(text),
}


def _known(text: str) -> _Name:
    """Return a name that a description may hold: a function that makes a tensor, a storage or a number format."""
    if text not in _CALLS and not text.startswith(("torch ", "torch.storage ")):
        raise ValueError(f"it holds an object of {text}")
    return _Name(text)


def _to_mark(stack: list[Any]) -> list[Any]:
    """Take and return everything above the last mark."""
    place = next(place for place in reversed(range(len(stack))) if stack[place] is _MARK)
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _tuple_of(count: int) -> Callable[[list[Any]], None]:
    def make(stack: list[Any]) -> None:
        stack[-count:] = [tuple(stack[-count:])]

    return make


def _set_items(stack: list[Any], values: list[Any]) -> None:
    stack[-1].update(zip(values[::2], values[1::2], strict=True))


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-1][key] = value


def _append(stack: list[Any]) -> None:
    value = stack.pop()
    stack[-1].append(value)


def _set_state(stack: list[Any]) -> None:
    """Leave out the state of an object: that of a state_dict says nothing of its tensors."""
    stack.pop()


def _store(stack: list[Any]) -> None:
    """Replace the description of a storage by its number format, record and device."""
    kind, name, key, location, _ = stack.pop()
    if kind != "storage":
        raise ValueError(f"it refers to a {kind}")
    number = name.text.rpartition(" ")[2].removesuffix("Storage")
    stack.append(_Storage(TYPES.get(number, number.lower()), f"data/{key}", location))


def _call(stack: list[Any]) -> None:
    """Replace a name and its arguments by what they describe."""
    arguments, name = stack.pop(), stack.pop()
    if not isinstance(name, _Name) or name.text not in _CALLS:
        raise ValueError("it holds an object of an unknown kind")
    stack.append(_CALLS[name.text](*arguments))


def _tensor(storage: _Storage, offset: int, size: tuple, stride: tuple, gradient: bool, *_: Any) -> SavedTensor:
    notes = ("requires a gradient",) if gradient is True else ()
    return SavedTensor(storage.number, storage.record, offset, size, stride, storage.location, notes)


def _typed_tensor(*arguments: Any) -> SavedTensor:
    """Return a tensor whose number format has no storage of its own, such as float8."""
    return replace(_tensor(*arguments[:5]), number=arguments[6].text.rpartition(" ")[2])


def _parameter(tensor: SavedTensor, *_: Any) -> SavedTensor:
    return replace(tensor, notes=("is a parameter",))


_OPERATIONS: dict[str, Callable[[list[Any]], None]] = {
    "TUPLE": lambda stack: stack.append(tuple(_to_mark(stack))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": lambda stack: (lambda values: stack[-1].extend(values))(_to_mark(stack)),
    "SETITEM": _set_item,
    "SETITEMS": lambda stack: (lambda values: _set_items(stack, values))(_to_mark(stack)),
    "BUILD": _set_state,
    "BINPERSID": _store,
    "REDUCE": _call,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _typed_tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "collections OrderedDict": dict,
}
