"""Atomic writes, content hashes, and readers that say what is wrong with a file."""

import contextlib
import hashlib
import io
import json
import os
import stat
import tempfile
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
# What a step of the pipeline writes stays far below these; a reader holds a few times as much in memory.
JSON_BYTES = 32 << 20
ARRAY_BYTES = 256 << 20
# What a step writes under these names; nobody is told to delete another file.
ARRAY_FILES = {"train.npz", "val.npz", "test.npz", "train_tuning.npz", "ranks.npz"}


@contextlib.contextmanager
def replacing(path: str | Path, needed: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place once the block ends without an error.

    A reader therefore sees the old file or the whole new one, whenever the writer is killed. Where the system refuses
    to write, a UserError says why, with the bytes `needed` where they are known.
    """
    path = Path(path)
    # Explained outside: by then the temporary file has given its bytes back, and the message finds room on that disk.
    with refusals_explained(path, needed), _temporary_beside(path) as temporary:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """Yield an empty file of a free name in the folder of `path`, which is made, and delete what is left of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{UNFINISHED}{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what killed writers left in a folder; nobody else may be writing there."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path, needed=len(content)) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write UTF-8 text atomically; half a character, as a path may hold in some locales, is written as an escape."""
    write_bytes(path, content.encode(errors="backslashreplace"))


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically; keys keep their order, NaN is refused."""
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
    """Return a path as text for a file: its bytes read as UTF-8 where they are that, whatever the locale makes of them.

    Otherwise it is what the locale makes of it, with escapes for what is no character there either.
    """
    try:
        return os.fsencode(path).decode()
    except UnicodeError:
        return str(path).encode(errors="backslashreplace").decode()


def file_size(path: str | Path, remedy: str) -> int:
    """Return the size of a file in bytes; one that is missing, or no file, is a UserError that ends with `remedy`.

    A pipe is refused before it is opened, which would wait for a writer.
    """
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        problem = "is a link that leads nowhere" if Path(path).is_symlink() else "not found"
        raise UserError(f"{path} {problem}: {remedy}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}): {remedy}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise UserError(f"{path} is {kind} where a file is needed: {remedy}")
    return status.st_size


def read_bytes(path: str | Path, limit: int, remedy: str) -> bytes:
    """Return the content of a file of at most `limit` bytes; a larger one is refused before it is read."""
    size = file_size(path, remedy)
    if size > limit:
        raise UserError(f"{path} has {size} bytes where at most {limit} are read: {remedy}")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from error


def read_text(path: str | Path, limit: int, remedy: str) -> str:
    """Return the text of a UTF-8 file of at most `limit` bytes, without a byte order mark."""
    try:
        return read_bytes(path, limit, remedy).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error


def read_json(
    path: str | Path, limit: int = JSON_BYTES, remedy: str = "check the folder, or run the step that writes it"
) -> Any:
    """Read a JSON file of at most `limit` bytes; a missing or malformed one is a UserError that names the place.

    Keys stand once and numbers are finite, so that what is read is what the file says.
    """
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
    """Read an NPZ file of plain arrays; object arrays are refused, and so is more than ARRAY_BYTES once unpacked."""
    file_size(path, "run the step that writes it")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > ARRAY_BYTES:
            raise ValueError(f"{unpacked} bytes once unpacked, at most {ARRAY_BYTES} are read")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        # Damage anywhere in the archive shows as whatever the parser then trips over.
        own = Path(path).name in ARRAY_FILES
        remedy = "delete it and run the step again" if own else "give the path of one that a step wrote"
        raise UserError(f"{path} is not a readable NPZ file ({one_line(str(error))}): {remedy}") from error


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal text; a missing file is a UserError."""
    file_size(path, "run the step that writes it")
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text, as hexadecimal text."""
    return hashlib.sha256(text.encode()).hexdigest()
