"""Values and texts from files as parts of a one-line message: shortened, control characters escaped."""

import reprlib
from typing import Any

SHOWN = 80


class _Short(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        """Say how large an integer is that Python refuses to write out."""
        return repr(value) if value.bit_length() < 4 * SHOWN else f"an integer of {value.bit_length()} bits"


_short = _Short()
_short.maxstring = _short.maxother = SHOWN
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = 4
_short.maxlevel = 3


def quoted(value: Any) -> str:
    """Return a value as Python writes it, at most a few of its items and characters; nesting and cycles end early."""
    text = _short.repr(value)
    return text if len(text) <= 4 * SHOWN else f"{text[: 4 * SHOWN]}..."


def one_line(text: str, length: int = 2 * SHOWN) -> str:
    """Return text without quotation marks, at most `length` characters, control characters escaped."""
    shown = text if len(text) <= length else f"{text[: length - 3]}..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in shown)
