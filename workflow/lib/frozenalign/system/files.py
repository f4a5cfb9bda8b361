"""Atomic writes, content hashes, and readers whose errors name the file and what is wrong with it."""

import contextlib
import hashlib
import io
import json
import os
import secrets
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from frozenalign.system.errors import UserError, one_line
from frozenalign.system.refusals import refusals_explained
from frozenalign.system.strict_json import decoded

CHUNK_BYTES = 8 << 20
UNFINISHED = ".unfinished-"
# The files of a step are far smaller; reading one takes a few times its size in memory.
JSON_BYTES = 32 << 20
ARRAY_BYTES = 256 << 20
# Names that steps write; the message about a damaged file of another name does not suggest deleting it.
ARRAY_FILES = {"train.npz", "val.npz", "test.npz", "train_tuning.npz", "ranks.npz", "counts.npz"}


@contextlib.contextmanager
def replacing(path: str | Path, needed: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place once the block ends without an error.

    Readers see the old file or the whole new one, even if the writer is killed. Where the system refuses to write, a
    UserError gives the reason, and the bytes `needed` if they are known.
    """
    path = Path(path)
    # The temporary file is gone before the error is explained: a message in a log needs room on the same disk.
    with refusals_explained(path, needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{UNFINISHED}{path.stem}-{secrets.token_hex(4)}{path.suffix}"
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path, stem: str | None = None) -> None:
    """Delete the unfinished files of killed writers in a folder; no other process may be writing there.

    stem: only those of files with this name before the ending.
    """
    for path in folder.glob(f"{UNFINISHED}*" if stem is None else f"{UNFINISHED}{stem}-*"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path, needed=len(content)) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write UTF-8 text atomically; a lone surrogate, as in a path that is not UTF-8, is written as an escape."""
    write_bytes(path, content.encode(errors="backslashreplace"))


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically; keys keep their order, NaN and infinity are a ValueError."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_yaml(path: str | Path, content: Any) -> None:
    """Write plain values as YAML atomically; keys keep their order."""
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def write_arrays(path: str | Path, **arrays: np.ndarray) -> None:
    """Write named arrays as a compressed NPZ file, atomically; the same arrays give the same bytes."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_bytes(path, content.getvalue())


def save_figure(path: str | Path, figure: Any, notes: Mapping[str, str]) -> None:
    """Write a matplotlib figure as PNG with notes by keyword, atomically and without a time stamp."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None, **notes})
    write_bytes(path, content.getvalue())


def path_text(path: str | Path) -> str:
    """Return a path as text for a file: its bytes as UTF-8, or what the locale makes of them, with escapes."""
    try:
        return os.fsencode(path).decode()
    except UnicodeError:
        return str(path).encode(errors="backslashreplace").decode()


def file_size(path: str | Path, remedy: str) -> int:
    """Return the size of a file in bytes; if it is missing or not a regular file, a UserError ends with `remedy`."""
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        problem = "is a link that leads nowhere" if Path(path).is_symlink() else "not found"
        raise UserError(f"{path} {problem}: {remedy}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}): {remedy}") from error
    # Opening a pipe would wait for a writer.
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise UserError(f"{path} is {kind} where a file is needed: {remedy}")
    return status.st_size


def read_text(path: str | Path, limit: int, remedy: str) -> str:
    """Return the text of a UTF-8 file of at most `limit` bytes, without a byte order mark."""
    size = file_size(path, remedy)
    if size > limit:
        raise UserError(f"{path} has {size} bytes where at most {limit} are read: {remedy}")
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error


def read_json(
    path: str | Path, limit: int = JSON_BYTES, remedy: str = "check the folder, or run the step that writes it"
) -> Any:
    """Read a JSON file of at most `limit` bytes; a UserError names the place of bad syntax, repeated keys or NaN."""
    text = read_text(path, limit, remedy)
    try:
        return decoded(text)
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}: {error.msg.removesuffix(' at')} at column {error.colno}"
        raise UserError(f"{path} is not valid JSON ({problem}): write it again") from error
    except RecursionError as error:
        raise UserError(f"{path} nests too deeply to be read as JSON: write plain lists of values") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON {error}") from error


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read an NPZ file; object arrays are refused, and so are arrays of more than ARRAY_BYTES in all."""
    file_size(path, "run the step that writes it")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > ARRAY_BYTES:
            raise ValueError(f"{unpacked} bytes once unpacked, at most {ARRAY_BYTES} are read")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        # The parser can raise anything on a damaged archive.
        is_own = Path(path).name in ARRAY_FILES
        remedy = "delete it and run the step again" if is_own else "give the path of one that a step wrote"
        raise UserError(f"{path} is not a readable NPZ file ({one_line(str(error))}): {remedy}") from error


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal text; a missing file is a UserError."""
    file_size(path, "run the step that writes it")
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text, as hexadecimal text."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_where_none_differs(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their path below a folder; one there with other content is a UserError, before any is written."""
    for name, content in files.items():
        if (folder / name).exists() and (folder / name).read_bytes() != content:
            raise UserError(f"{folder / name} is another file, which would be replaced: take another --output-dir")
    for name, content in files.items():
        write_bytes(folder / name, content)
