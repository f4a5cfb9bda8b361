"""The records of archives that torch.save has written, checked without PyTorch."""

import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from frozenalign.system.errors import UserError
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


def record_start(path: Path, record: zipfile.ZipInfo) -> int:
    """Return the position in the file, in bytes, of a record's content."""
    with path.open("rb") as stream:
        stream.seek(record.header_offset + 26)
        name_bytes, extra_bytes = struct.unpack("<HH", stream.read(4))
    return record.header_offset + 30 + name_bytes + extra_bytes


def checked_records(path: Path, kind: ArchiveKind) -> list[zipfile.ZipInfo]:
    """Return the records of a complete, uncompressed archive of this machine's byte order whose checksums fit."""
    records = _complete_records(path, kind, file_size(path, kind.missing))
    if any(_is_foreign_order(path, record) for record in records):
        raise UserError(f"{path} was written on a machine of another byte order: write it on this one")
    return records


def _complete_records(path: Path, kind: ArchiveKind, size: int) -> list[zipfile.ZipInfo]:
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
