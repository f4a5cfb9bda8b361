"""Hashes of file contents, and the memory of those of large files."""

import os

import pytest

from frozenalign.system import fingerprints as content
from frozenalign.system.fingerprints import content_hash


@pytest.fixture
def read(monkeypatch) -> list:
    """The names of the files that are read, in order; every file counts as large."""
    seen, file_hash = [], content.file_hash
    monkeypatch.setattr(content, "LARGE_BYTES", 1)
    monkeypatch.setattr(content, "file_hash", lambda path: seen.append(path.name) or file_hash(path))
    content._hash_now.cache_clear()
    return seen


def test_content_and_order_decide_names_and_times_do_not(tmp_path):
    for name, text in (("a", "1"), ("b", "2"), ("c", "1")):
        (tmp_path / name).write_text(text)
    a, b, c, missing = (tmp_path / name for name in ("a", "b", "c", "missing"))
    os.utime(c, (0, 0))
    assert content_hash([a, b]) == content_hash([c, b])
    assert len({content_hash(paths) for paths in ([a, b], [b, a], [a], [a, missing], [])}) == 5


def test_a_large_file_is_read_once_until_it_changes(tmp_path, read):
    large, known = tmp_path / "large", tmp_path / "state" / "known.json"
    large.write_text("one")
    first = content_hash([large], known)
    content._hash_now.cache_clear()
    assert content_hash([large], known) == first
    assert read == ["large"]
    status = large.stat()
    large.write_text("two")
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_hash([large], known) != first
    assert read == ["large", "large"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"PATH": 3}', '{"PATH": {"stamp": [1], "sha256": 5}}'])
def test_a_damaged_memory_only_costs_a_reading(tmp_path, read, damage):
    large, known = tmp_path / "large", tmp_path / "known.json"
    large.write_text("one")
    first = content_hash([large], known)
    content._hash_now.cache_clear()
    known.write_text(damage.replace("PATH", str(large)))
    assert content_hash([large], known) == first
    assert read == ["large", "large"]


def test_where_nothing_can_be_remembered_the_file_is_read(tmp_path, read):
    large, blocked = tmp_path / "large", tmp_path / "blocked"
    large.write_text("one")
    blocked.write_text("")
    assert content_hash([large], blocked / "known.json") == content_hash([large])
