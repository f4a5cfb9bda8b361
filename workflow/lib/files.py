"""Atomic writes, content hashes, and readers that say what is wrong with a file."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from workflow.lib.errors import UserError

CHUNK_BYTES = 8 << 20


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place once the block ends without an error.

    A reader therefore sees the old file or the whole new one, whenever the writer is killed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically; keys keep their order, NaN is refused."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_yaml(path: str | Path, content: Any) -> None:
    """Write plain values as YAML atomically; keys keep their order."""
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def write_arrays(path: str | Path, **arrays: np.ndarray) -> None:
    """Write named arrays as a compressed NPZ file, atomically; the same arrays give the same bytes."""
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def save_figure(path: str | Path, figure: Any, dpi: int = 150) -> None:
    """Write a matplotlib figure as PNG, atomically and without a time stamp."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, metadata={"Software": None})


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a missing or malformed one is a UserError that names the place."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path} not found: check the folder, or run the step that writes it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): write it again as UTF-8 JSON") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON (line {error.lineno}: {error.msg}): write it again") from error
    except RecursionError as error:
        raise UserError(f"{path} nests too deeply to be read as JSON: write plain lists of values") from error


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read an NPZ file of plain arrays; object arrays are refused."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UserError(f"{path} not found: run the step that writes it") from error
    except Exception as error:
        raise UserError(f"{path} is not a readable NPZ file ({error}): delete it and run the step again") from error


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal text."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text, as hexadecimal text."""
    return hashlib.sha256(text.encode()).hexdigest()
