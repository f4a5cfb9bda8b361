"""JSON without repeated keys and without numbers that are not finite."""

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from frozenalign.system.errors import one_line, quoted


class _Fault(NamedTuple):
    """Takes the place of a refused value in a document; without a remedy the value was a number."""

    problem: str
    remedy: str | None


def decoded(text: str) -> Any:
    """Return the content of JSON text; for a repeated key or an unusable number, a ValueError names the place."""
    faults = []

    def fault(problem: str, remedy: str | None = None) -> _Fault:
        faults.append(_Fault(problem, remedy))
        return faults[-1]

    def single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Fault:
        content = dict(pairs)
        if len(content) == len(pairs):
            return content
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))
        return fault(f"the key {quoted(repeated)} stands twice", "leave one of them out")

    def finite_number(digits: str) -> float | _Fault:
        number = float(digits)
        return number if math.isfinite(number) else fault(f"{digits[:20]} is not a finite number")

    def short_integer(digits: str) -> int | _Fault:
        try:
            return int(digits)
        except ValueError:
            return fault(f"an integer of {len(digits)} digits is too long")

    hooks = {"object_pairs_hook": single_keys, "parse_constant": finite_number, "parse_float": finite_number}
    try:
        content = json.loads(text, **hooks)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # An integer is too long. Its hook makes reading slower, so it is used only here.
        content = json.loads(text, parse_int=short_integer, **hooks)
    if faults:
        raise ValueError(_first_fault(content))
    return content


def _first_fault(document: Any) -> str:
    """Return the place and the problem of a document's first fault in brackets, and the remedy."""
    waiting: list[tuple[Any, tuple[str | int, ...], list[Any]]] = [(document, (), [])]
    while True:
        value, keys, beside = waiting.pop()
        if isinstance(value, _Fault):
            place = f"{_place(keys)}: " if keys else ""
            return f"({place}{value.problem}): {value.remedy or _number_remedy(keys, beside)}"
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        values = [item for _, item in items]
        inner = [(item, (*keys, key), values) for key, item in items if isinstance(item, dict | list | _Fault)]
        waiting += reversed(inner)


def _number_remedy(keys: tuple[str | int, ...], beside: list[Any]) -> str:
    """Return what to write instead of a number: text, if all values beside it are text."""
    texts = any(isinstance(value, str) for value in beside)
    if len(keys) > 1 and texts and all(isinstance(value, str | _Fault) for value in beside):
        return f"write every value of {_place(keys[:-1])} as text"
    return "write text or an ordinary number there"


def _place(keys: Iterable[str | int]) -> str:
    """Return where a value is in a document, as in `images[3].captions`."""
    parts = (f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{quoted(key)}]" for key in keys)
    return one_line("".join(parts).removeprefix("."))
