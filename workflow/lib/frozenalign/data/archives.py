"""Archives of torch.save, opened only where they are whole and uncompressed: nothing in them can grow or run.

Tensors are mapped, not loaded: a description that claims more values than the file has is found out by its end, where
plain loading would read memory beyond the record.
"""

import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frozenalign.system.errors import UserError
from frozenalign.system.files import CHUNK_BYTES, file_size


@dataclass(frozen=True)
class ArchiveKind:
    """What an archive should be, for its reader and for messages.

    description_bytes: most bytes that the part which is unpickled may have.
    missing: what to do where there is no such file; otherwise: what to do about any other fault.
    foreign: what a file is that cannot be read as this kind, as the words after its name.
    verified: whether the checksums of all records are looked at, which reads the file once, or not those of storages.
    """

    description_bytes: int
    verified: bool
    missing: str
    foreign: str
    otherwise: str


def open_archive(path: Path, kind: ArchiveKind) -> tuple[Any, list[zipfile.ZipInfo]]:
    """Return the content of a .pt file, tensors and plain values, and the archive's records."""
    size = file_size(path, kind.missing)
    records = _read(path, kind, zipfile.ZipFile.infolist)
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise UserError(f"{path} is a compressed archive: {kind.otherwise}")
    if sum(record.file_size for record in records) > size:
        raise UserError(f"{path} {kind.foreign}: it claims more bytes than it has; {kind.otherwise}")
    description = next((record for record in records if record.filename.endswith("/data.pkl")), None)
    if description is None or description.file_size > kind.description_bytes:
        raise UserError(f"{path} {kind.foreign}: {kind.otherwise}")
    _read(path, kind, lambda archive: [_refuse_changed(archive, record, kind.verified) for record in records])
    if any(_is_foreign_order(path, record) for record in records):
        raise UserError(f"{path} was written on a machine of another byte order: write it on this one")
    try:
        # PyTorch opens a name as UTF-8, also where the locale has made something else of its bytes.
        with path.open("rb") as stream:
            name = path if str(path).isascii() else f"/dev/fd/{stream.fileno()}"
            return torch.load(name, map_location="cpu", mmap=True, weights_only=True), records
    except Exception as error:
        # Damage shows as whatever the unpickler then trips over, from KeyError to AssertionError.
        raise UserError(f"{path} {kind.foreign}: {kind.otherwise}") from error


def record_start(path: Path, record: zipfile.ZipInfo) -> int:
    """Return the byte of the file at which the content of a record stands."""
    with path.open("rb") as stream:
        stream.seek(record.header_offset + 26)
        name_bytes, extra_bytes = struct.unpack("<HH", stream.read(4))
    return record.header_offset + 30 + name_bytes + extra_bytes


def _is_foreign_order(path: Path, record: zipfile.ZipInfo) -> bool:
    if not record.filename.endswith("/byteorder"):
        return False
    with path.open("rb") as stream:
        stream.seek(record_start(path, record))
        return stream.read(record.file_size) != sys.byteorder.encode()


def _refuse_changed(archive: zipfile.ZipFile, record: zipfile.ZipInfo, storages: bool) -> None:
    """Let zipfile compare a record's two headers and, but for storages that wait until they are needed, its checksum.

    A writer may leave the checksum out, as 0.
    """
    with archive.open(record) as stream:
        if record.CRC and (storages or "/data/" not in record.filename):
            while stream.read(CHUNK_BYTES):
                pass


def _read(path: Path, kind: ArchiveKind, look: Callable[[zipfile.ZipFile], Any]) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            return look(archive)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): {kind.otherwise}") from error
    except Exception as error:
        # zipfile raises whatever damage leads to, from BadZipFile to struct.error.
        raise UserError(
            f"{path} {kind.foreign}: it is no complete .pt archive (cut off, or PyTorch before 1.6); {kind.otherwise}"
        ) from error
