"""Archives of torch.save, opened only where they are whole and uncompressed: nothing in them can grow or run.

Tensors are mapped, not loaded: a description that claims more values than the file has is found out by its end, where
plain loading would read memory beyond the record.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workflow.lib.errors import UserError
from workflow.lib.files import file_size


@dataclass(frozen=True)
class ArchiveKind:
    """What an archive should be, for its reader and for messages.

    description_bytes: most bytes that the part which is unpickled may have.
    missing: what to do where there is no such file; otherwise: what to do about any other fault.
    foreign: what a file is that cannot be read as this kind, as the words after its name.
    """

    description_bytes: int
    missing: str
    foreign: str
    otherwise: str


def open_archive(path: Path, kind: ArchiveKind) -> tuple[Any, list[zipfile.ZipInfo]]:
    """Return the content of a .pt file, tensors and plain values, and the archive's records."""
    size = file_size(path, kind.missing)
    records = _records(path, kind)
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise UserError(f"{path} is a compressed archive: {kind.otherwise}")
    if sum(record.file_size for record in records) > size:
        raise UserError(f"{path} {kind.foreign}: it claims more bytes than it has; {kind.otherwise}")
    description = next((record for record in records if record.filename.endswith("/data.pkl")), None)
    if description is None or description.file_size > kind.description_bytes:
        raise UserError(f"{path} {kind.foreign}: {kind.otherwise}")
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True), records
    except Exception as error:
        # Damage shows as whatever the unpickler then trips over, from KeyError to AssertionError.
        raise UserError(f"{path} {kind.foreign}: {kind.otherwise}") from error


def _records(path: Path, kind: ArchiveKind) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): {kind.otherwise}") from error
    except Exception as error:
        raise UserError(
            f"{path} {kind.foreign}: it is no complete .pt archive (cut off, or PyTorch before 1.6); {kind.otherwise}"
        ) from error
