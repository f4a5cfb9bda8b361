"""Members of tar archives, read where they lie: nothing is unpacked, and no link in an archive is followed."""

import functools
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from frozenalign.system.errors import UserError, one_line
from frozenalign.system.files import file_size
from frozenalign.system.fingerprints import file_stamp

TAR = ".tar"
REMEDY = "copy it again"
# What describes the next member (a long name, its properties) is read into memory as a whole.
DESCRIPTION_TYPES = (b"x", b"g", b"X", b"L", b"K")
DESCRIPTION_BYTES = 1 << 20
# Archives whose members are remembered: pictures are read in their order.
REMEMBERED = 8


class Member(NamedTuple):
    """Where the content of a member lies in its archive, in bytes."""

    start: int
    size: int


class _BoundedHeader(tarfile.TarInfo):
    """A header that can lead neither backwards nor to a description that memory does not hold."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in DESCRIPTION_TYPES and header.size > DESCRIPTION_BYTES):
            raise ValueError(f"a header says {header.size} bytes")
        return header


def parted(name: str) -> tuple[str, str]:
    """Return the path of a tar and the name of its member, as in `a/00000.tar/key.jpg`; the latter is empty if none."""
    before, end, member = name.partition(f"{TAR}/")
    return (f"{before}{TAR}", member) if end else (name, "")


def members(path: Path) -> dict[str, Member]:
    """Return the regular members of an uncompressed tar by name, in its order; of a repeated name the last."""
    file_size(path, REMEDY)
    return _members(path, file_stamp(path.stat()))


def read_members(path: Path, names: Iterable[str], limit: int) -> Iterator[bytes]:
    """Yield the content of members, each of at most `limit` bytes."""
    index = members(path)
    with path.open("rb") as stream:
        for name in names:
            member = index[name]
            if member.size > limit:
                raise UserError(f"{path}: {one_line(name)} has {member.size} bytes where at most {limit} are read")
            stream.seek(member.start)
            yield stream.read(member.size)


@functools.lru_cache(maxsize=REMEMBERED)
def _members(path: Path, stamp: tuple[int, ...]) -> dict[str, Member]:
    size = stamp[0]
    try:
        with tarfile.open(path, "r:", tarinfo=_BoundedHeader) as archive:
            found = dict(_walked(archive, size))
            end = archive.offset
        with path.open("rb") as stream:
            stream.seek(end)
            # The parser takes a damaged header for the end, which is a block of zeros or that of the file.
            if any(stream.read(tarfile.BLOCKSIZE)):
                raise ValueError(f"no header at byte {end}")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {REMEDY}") from error
    except Exception as error:
        # The parser raises whatever the damage leads to, from ReadError to RecursionError.
        raise UserError(f"{path} is not a complete, uncompressed tar ({one_line(str(error))}): {REMEDY}") from error
    return found


def _walked(archive: tarfile.TarFile, size: int) -> Iterator[tuple[str, Member]]:
    """Yield name and place of each regular member, in the archive's order."""
    before = -1
    while (entry := archive.next()) is not None:
        if entry.size < 0 or archive.offset <= before:
            raise ValueError(f"{entry.name} leads backwards")
        before = archive.offset
        if entry.isreg() and not entry.issparse():
            if entry.offset_data + entry.size > size:
                raise ValueError(f"it was cut off in {entry.name}")
            yield entry.name.removeprefix("./"), Member(entry.offset_data, entry.size)
