"""Archives written by torch.save, opened only if complete and uncompressed, without running anything in them.

Tensors are memory-mapped, not loaded: a header that claims more values than the file holds then fails at the end of
the file, where plain loading would read memory beyond the record.
"""

import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frozenalign.system.errors import UserError, is_out_of_memory
from frozenalign.system.files import CHUNK_BYTES, file_size


@dataclass(frozen=True)
class ArchiveKind:
    """What an archive should be, for its reader and for messages.

    description_bytes: largest allowed size of the pickled part.
    verified: whether the checksums of tensor data are checked as well, which reads the whole file.
    missing: what to do if there is no such file; otherwise: what to do about any other fault.
    foreign: what is wrong with a file that is not of this kind, as the words after its name.
    """

    description_bytes: int
    verified: bool
    missing: str
    foreign: str
    otherwise: str


def open_archive(path: Path, kind: ArchiveKind, device: str = "cpu") -> tuple[Any, list[zipfile.ZipInfo]]:
    """Return the content of a .pt file, tensors and plain values, and the archive's records.

    device: where its tensors are; of those on `meta` nothing but the shape is read.
    """
    records = _checked_records(path, kind, file_size(path, kind.missing))
    if any(_is_foreign_order(path, record) for record in records):
        raise UserError(f"{path} was written on a machine of another byte order: write it on this one")
    try:
        # PyTorch opens a name as UTF-8, also where the locale has decoded its bytes differently.
        with path.open("rb") as stream:
            name = path if str(path).isascii() else f"/dev/fd/{stream.fileno()}"
            return torch.load(name, map_location=device, mmap=device == "cpu", weights_only=True), records
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError(f"{path} does not fit into the memory that is left: raise `ulimit -v`") from error
        # A damaged file raises whatever the unpickler trips over, from KeyError to AssertionError.
        raise UserError(f"{path} {kind.foreign}: {kind.otherwise}") from error


def record_start(path: Path, record: zipfile.ZipInfo) -> int:
    """Return the position in the file, in bytes, of a record's content."""
    with path.open("rb") as stream:
        stream.seek(record.header_offset + 26)
        name_bytes, extra_bytes = struct.unpack("<HH", stream.read(4))
    return record.header_offset + 30 + name_bytes + extra_bytes


def _checked_records(path: Path, kind: ArchiveKind, size: int) -> list[zipfile.ZipInfo]:
    """Return the records of a complete, uncompressed archive of `size` bytes whose checksums fit."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise UserError(f"{path} is a compressed archive: {kind.otherwise}")
            if sum(record.file_size for record in records) > size:
                raise UserError(f"{path} {kind.foreign}: it claims more bytes than it has; {kind.otherwise}")
            description = next((record for record in records if record.filename.endswith("/data.pkl")), None)
            if description is None or description.file_size > kind.description_bytes:
                raise UserError(f"{path} {kind.foreign}: {kind.otherwise}")
            for record in records:
                # Opening a record compares its two headers, and its last bytes the checksum, which may be left out (0).
                with archive.open(record) as stream:
                    if record.CRC and (kind.verified or "/data/" not in record.filename):
                        while stream.read(CHUNK_BYTES):
                            pass
            return records
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): {kind.otherwise}") from error
    except Exception as error:
        # zipfile raises whatever the damage leads to, from BadZipFile to struct.error.
        raise UserError(
            f"{path} {kind.foreign}: it is no complete .pt archive (cut off, or PyTorch before 1.6); {kind.otherwise}"
        ) from error


def _is_foreign_order(path: Path, record: zipfile.ZipInfo) -> bool:
    if not record.filename.endswith("/byteorder"):
        return False
    with path.open("rb") as stream:
        stream.seek(record_start(path, record))
        return stream.read(record.file_size) != sys.byteorder.encode()
