"""JSON in which a key stands once and a number is finite, so that what is read is what the text says."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from frozenalign.system.errors import one_line, quoted


def decoded(text: str) -> Any:
    """Return what JSON text says; where a key stands twice or a number cannot be held, a ValueError names the place."""
    try:
        return json.loads(
            text, object_pairs_hook=_single_keys, parse_constant=_finite_number, parse_float=_finite_number
        )
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        # A reader that marks places is slower: only what is refused anyway is read by it.
        content = json.loads(
            text,
            object_pairs_hook=_marked(_single_keys, "leave one of them out"),
            parse_constant=_marked(_finite_number),
            parse_float=_marked(_finite_number),
            parse_int=_marked(_short_integer),
        )
        raise ValueError(_sentence(*next(_faults(content)))) from error


def _single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {quoted(twice)} stands twice")
    return content


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _short_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"an integer of {len(text)} digits is too long") from error


@dataclass(frozen=True, slots=True)
class _Fault:
    """What stands in a document in place of a value that was refused; without a remedy it was a number."""

    problem: str
    remedy: str | None


def _marked(read: Callable[[Any], Any], remedy: str | None = None) -> Callable[[Any], Any]:
    """Return a function that returns what `read` returns, and a fault where that refuses."""

    def read_or_mark(raw: Any) -> Any:
        try:
            return read(raw)
        except ValueError as error:
            return _Fault(str(error), remedy)

    return read_or_mark


def _faults(document: Any) -> Iterator[tuple[_Fault, tuple[str | int, ...], list[Any]]]:
    """Yield the faults of a document in its order, each with its keys and indexes and with the values beside it."""
    waiting: list[tuple[Any, tuple[str | int, ...], list[Any]]] = [(document, (), [])]
    while waiting:
        value, keys, beside = waiting.pop()
        if isinstance(value, _Fault):
            yield value, keys, beside
        elif isinstance(value, dict | list):
            items = list(value.items() if isinstance(value, dict) else enumerate(value))
            values = [item for _, item in items]
            inner = [(item, (*keys, key), values) for key, item in items if isinstance(item, dict | list | _Fault)]
            waiting += reversed(inner)


def _sentence(fault: _Fault, keys: tuple[str | int, ...], beside: list[Any]) -> str:
    """Return the place of a fault and its problem in brackets, and what to do."""
    at = f"{_place(keys)}: " if keys else ""
    return f"({at}{fault.problem}): {fault.remedy or _number_remedy(keys, beside)}"


def _number_remedy(keys: tuple[str | int, ...], beside: list[Any]) -> str:
    """Say what to write instead of a number: text, where that is all that stands beside it."""
    texts = any(isinstance(value, str) for value in beside)
    if len(keys) > 1 and texts and all(isinstance(value, str | _Fault) for value in beside):
        return f"write every value of {_place(keys[:-1])} as text"
    return "write text or an ordinary number there"


def _place(keys: Iterable[str | int]) -> str:
    """Return where a value stands in a document, as in `images[3].captions`."""
    parts = (f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{quoted(key)}]" for key in keys)
    return one_line("".join(parts).removeprefix("."))
