"""The items of a long list in a JSON file, read one at a time: memory holds one item, not the file."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frozenalign.system.errors import UserError, quoted

PIECE_CHARACTERS = 1 << 20
# What is longer is no item: it is not looked at again and again with more of the file behind it.
ITEM_CHARACTERS = 4 << 20
SPACE = re.compile(r"[ \t\n\r]*")


def json_items(path: str | Path, key: str) -> Iterator[Any]:
    """Yield the items of the list that a JSON object, the whole file, holds under a key; other keys are passed over.

    Bad syntax, a repeated key in an item, NaN and a list that is missing are a UserError with the place.
    """
    count, found = 0, False
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            reader = _Reader(stream)
            reader.expect("{")
            while True:
                name = reader.value()
                reader.expect(":")
                if name == key and not found and reader.peek() == "[":
                    found = True
                    for item in reader.items():
                        yield item
                        count += 1
                else:
                    reader.value()
                if reader.expect(",}") == "}":
                    break
            if reader.peek():
                raise ValueError("more text follows the object")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): copy it again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except RecursionError as error:
        raise UserError(f"{path} nests too deeply to be read as JSON: write plain lists of values") from error
    except ValueError as error:
        problem = error.msg.removesuffix(" at") if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{path} is not valid JSON ({key}[{count}]: {problem}): copy or write it again") from error
    if not found:
        raise UserError(f"{path} has no list {quoted(key)}: copy or write it again")


class _Reader:
    """JSON values from a stream of text, one after the other."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.text, self.position, self.ended = stream, "", 0, False
        self.decoder = json.JSONDecoder(object_pairs_hook=_single_keys, parse_constant=_refused)

    def peek(self) -> str:
        """Return the next character that is no space, empty at the end."""
        while True:
            self.position = SPACE.match(self.text, self.position).end()
            if self.position < len(self.text) or not self._more():
                return self.text[self.position : self.position + 1]

    def expect(self, allowed: str) -> str:
        """Pass over one of the allowed characters and return it."""
        if not (found := self.peek()) or found not in allowed:
            raise ValueError(f"expected {' or '.join(allowed)}, found {quoted(found) if found else 'the end'}")
        self.position += 1
        return found

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError:
                if len(self.text) - self.position > ITEM_CHARACTERS or not self._more():
                    raise
                continue
            # A number may go on in the next piece.
            if end < len(self.text) or not self._more():
                self.position = end
                return value

    def items(self) -> Iterator[Any]:
        """Yield the items of the list that follows."""
        self.expect("[")
        if self.peek() == "]":
            self.position += 1
            return
        while True:
            yield self.value()
            if self.expect(",]") == "]":
                return

    def _more(self) -> bool:
        """Read another piece behind what is left; return whether there was one."""
        piece = "" if self.ended else self.stream.read(PIECE_CHARACTERS)
        self.ended = not piece
        if piece:
            self.text, self.position = self.text[self.position :] + piece, 0
        return bool(piece)


def _single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands twice")
    return content


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not a finite number")
