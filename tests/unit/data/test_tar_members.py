"""Tars: regular members where they lie, nothing followed or unpacked, and damage said instead of taken for the end."""

import io
import tarfile
import time
from pathlib import Path

import pytest

from frozenalign.data.tar_members import members, parted, read_members
from frozenalign.system.errors import UserError

FILES = {"a.txt": b"one", "b/c.txt": b"two" * 400, "d.txt": b"", "ü" * 60 + ".txt": b"long name"}


def write_tar(path: Path, files: dict[str, bytes], **options) -> Path:
    with tarfile.open(path, "w", **options) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1_700_000_000.25
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_read_where_they_lie(tmp_path, form):
    files = {name: content for name, content in FILES.items() if form != tarfile.USTAR_FORMAT or len(name) < 50}
    path = write_tar(tmp_path / "a.tar", files, format=form)
    assert dict(zip(files, read_members(path, files, 10_000), strict=True)) == files
    assert list(members(path)) == list(files)


def test_a_changed_tar_is_read_anew(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.txt": b"one"})
    assert list(members(path)) == ["a.txt"]
    write_tar(path, {"b.txt": b"one", "c.txt": b""})
    assert list(members(path)) == ["b.txt", "c.txt"]


def test_of_a_repeated_name_the_last_counts_as_when_unpacking(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for content in (b"first", b"last"):
            entry = tarfile.TarInfo("a")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert list(read_members(tmp_path / "a.tar", ["a"], 100)) == [b"last"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_links_pipes_devices_and_folders_are_no_members(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("a.jpg")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    assert members(tmp_path / "a.tar") == {}


def test_a_member_larger_than_the_limit_is_not_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a": bytes(101)})
    with pytest.raises(UserError, match="a has 101 bytes where at most 100 are read"):
        list(read_members(path, ["a"], 100))


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a header with a checksum that fits, and a size that Python would not write."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    block = bytearray(entry.tobuf())
    block[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    return bytes(block)


WHOLE = header("a", 600) + bytes(1024)
DAMAGED = {
    "empty": (b"", "empty file"),
    "text": (b"no tar at all", "truncated header"),
    "not a tar": (b"x" * 2048, "invalid header"),
    "compressed": (b"\x1f\x8b" + bytes(2000), "bad checksum"),
    "cut in a header": (WHOLE + header("b", 3)[:300], "no header at byte 1536"),
    "cut in a member": (WHOLE + header("b", 3000) + bytes(100), "it was cut off in b"),
    "a wrong header": (WHOLE + b"\x01" + header("b", 3)[1:] + bytes(2048), "no header at byte 1536"),
    "a size below zero": (WHOLE + header("b", -512) + bytes(1024), "a header says -512 bytes"),
    "a size beyond the file": (WHOLE + header("b", 1 << 60), "cut off"),
    "a name of a gigabyte": (header("././@LongLink", 1 << 30, b"L") + bytes(1024), "a header says 1073741824 bytes"),
    "properties below zero": (header("p", -1024, b"x") + bytes(1024), "a header says -1024 bytes"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_sentence_and_ends_at_once(tmp_path, name):
    content, problem = DAMAGED[name]
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    began = time.perf_counter()
    with pytest.raises(UserError) as refused:
        members(path)
    assert time.perf_counter() - began < 5
    assert str(refused.value).startswith(f"{path} is not a complete, uncompressed tar (")
    assert problem in str(refused.value)


def test_a_tar_without_the_blocks_of_zeros_at_its_end_is_complete(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(WHOLE)
    assert list(members(path)) == ["a"]


@pytest.mark.parametrize("cut", [1, 323, 324, 325, 900, 1024, 1500, 1537, 3000])
def test_a_tar_that_is_cut_off_is_never_taken_for_a_shorter_one(tmp_path, cut):
    path = write_tar(
        tmp_path / "a.tar", {f"{i}.txt": bytes([65 + i]) * 700 for i in range(4)}, format=tarfile.GNU_FORMAT
    )
    end = 4 * (512 + 1024)
    path.write_bytes(path.read_bytes()[: end - cut])
    with pytest.raises(UserError, match="not a complete, uncompressed tar"):
        members(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("00000.tar/key.jpg", ("00000.tar", "key.jpg")),
        ("a/00000.tar/b/key.jpg", ("a/00000.tar", "b/key.jpg")),
        ("a.tar", ("a.tar", "")),
        ("a.tar.jpg", ("a.tar.jpg", "")),
        ("a/b.jpg", ("a/b.jpg", "")),
    ],
)
def test_the_name_of_a_member_begins_with_its_tar(name, expected):
    assert parted(name) == expected
