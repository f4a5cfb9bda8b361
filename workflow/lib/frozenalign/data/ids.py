"""What an id may be: text of whole characters that fits into a column of a table."""

import re
from typing import Any

# NumPy stores every id of a column at the length of the longest.
ID_LENGTH = 255


def is_text(value: Any) -> bool:
    """Return whether a value is text that can be written to a file: JSON may hold a lone surrogate, which cannot."""
    return isinstance(value, str) and (value.isascii() or value.encode(errors="ignore").decode() == value)


def natural_order(name: str) -> list[tuple[int, str]]:
    """Return the key by which names are sorted as people count: `10.tar` after `9.tar`."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"([0-9]+)", name)]
