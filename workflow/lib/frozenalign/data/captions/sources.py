"""A file or folder of captions as its readers see it: its name, its beginning, its lines, its JSON."""

import functools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frozenalign.system.errors import UserError
from frozenalign.system.files import file_size, read_json

BEGINNING_BYTES = 64 << 10
# A document takes up to ten times its size in memory. Longer lists of captions are read line by line.
DOCUMENT_BYTES = 512 << 20
LINES_BYTES = 4 << 30
LINE_BYTES = 1 << 20
REMEDY = "set `captions` to a file or folder of captions"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LINE_SUFFIXES = (".jsonl", ".ndjson")
# Files of these are no JSON, however they begin.
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".token", ".tar")


@dataclass(frozen=True)
class CaptionSource:
    """A file or folder of captions.

    columns: column of the file, by what it holds (image, caption, image_id, caption_id). pictures: the folder of the
    pictures, if known.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    pictures: Path | None = None

    @functools.cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder; anything else must be a regular file."""
        if self.path.is_dir():
            if not os.access(self.path, os.R_OK | os.X_OK):
                raise UserError(f"{self.path} cannot be listed: ask for the permission to read it (chmod)")
            return True
        file_size(self.path, REMEDY)
        return False

    @functools.cached_property
    def beginning(self) -> bytes:
        """The first bytes of the file without a byte order mark; none of a folder."""
        if self.is_folder:
            return b""
        try:
            with self.path.open("rb") as stream:
                return stream.read(BEGINNING_BYTES).removeprefix(BYTE_ORDER_MARK)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}): {REMEDY}") from error

    @property
    def first_line(self) -> str:
        """The first line of the file, at most as much of it as its beginning holds."""
        return re.split(rb"[\r\n]", self.beginning, maxsplit=1)[0].decode(errors="replace")

    @functools.cached_property
    def has_json_lines(self) -> bool:
        """Whether each line is a JSON object of its own: so the name says, or the first line is and others follow."""
        if self.path.suffix.lower() in LINE_SUFFIXES:
            return True
        first, _, rest = self.beginning.partition(b"\n")
        if not first.startswith(b"{") or not rest.strip():
            return False
        try:
            return isinstance(json.loads(first), dict)
        except (ValueError, RecursionError):
            return False

    @functools.cached_property
    def document(self) -> Any:
        """The content of a JSON document, None of any other file."""
        suffix = self.path.suffix.lower()
        if self.is_folder or self.has_json_lines or suffix in TABLE_SUFFIXES:
            return None
        if suffix != ".json" and self.beginning.lstrip()[:1] not in (b"{", b"["):
            return None
        return read_json(self.path, DOCUMENT_BYTES, "write the captions as CSV or JSON Lines, which may be larger")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield number, from 1, and text of each line, with its end."""
        size = file_size(self.path, REMEDY)
        if size > LINES_BYTES:
            raise UserError(f"{self.path} has {size} bytes where at most {LINES_BYTES} are read: divide it into files")
        try:
            with self.path.open("rb") as stream:
                for number, line in enumerate(iter(lambda: stream.readline(LINE_BYTES + 1), b""), start=1):
                    yield number, self._decoded(number, line)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}): {REMEDY}") from error

    def _decoded(self, number: int, line: bytes) -> str:
        if len(line) > LINE_BYTES:
            raise UserError(f"{self.path}: line {number} has more than {LINE_BYTES} bytes: write one caption a line")
        try:
            return line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: line {number} is not UTF-8 text: save the file as UTF-8") from error
