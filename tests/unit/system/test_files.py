"""Files: written whole or not at all, read with a sentence that names what is wrong, hashed by content."""

import hashlib
import json
import math
import os
import re
import time

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from frozenalign.system.errors import UserError
from frozenalign.system.files import (
    file_hash,
    path_text,
    read_arrays,
    read_json,
    replacing,
    save_figure,
    text_hash,
    write_arrays,
    write_bytes,
    write_json,
    write_text,
    write_yaml,
)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_file_takes_the_place_of_the_old_one_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert (temporary.parent, temporary.suffix) == (path.parent, path.suffix)
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [["a.txt"], []], ids=["over an old file", "where none was"])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error, before):
    for name in before:
        (tmp_path / name).write_text("old")
    with pytest.raises(error), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half of the n")
        raise error
    assert names(tmp_path) == before
    assert all((tmp_path / name).read_text() == "old" for name in before)


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "é")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "é".encode()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_file_has_the_permissions_that_the_user_gives_new_files(tmp_path, mask, mode):
    previous = os.umask(mask)
    try:
        write_bytes(tmp_path / "a", b"")
        assert os.umask(mask) == mask
    finally:
        os.umask(previous)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_json_and_yaml_keep_values_and_the_order_of_keys(tmp_path):
    content = {"z": [1, 2.5e-05, None, True], "a": {"ü": "text: with colon"}}
    write_json(tmp_path / "a.json", content)
    write_yaml(tmp_path / "a.yaml", content)
    for found in (read_json(tmp_path / "a.json"), yaml.safe_load((tmp_path / "a.yaml").read_text())):
        assert found == content
        assert list(found) == ["z", "a"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_refuses_what_is_no_number_and_keeps_the_old_file(tmp_path, value):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [value])
    assert read_json(tmp_path / "a.json") == [1]


def test_arrays_come_back_as_they_were(tmp_path, rng):
    written = {"a": rng.integers(0, 9, (3, 4)), "b": rng.random(5).astype(np.float32), "c": np.array(["x", "yz"])}
    write_arrays(tmp_path / "a.npz", **written)
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(written)
    for name, array in written.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_the_same_content_gives_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    figure = Figure()
    figure.subplots().plot([1, 2, 3])
    for name, now in (("first", 1.7e9), ("second", 1.8e9)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        write_arrays(tmp_path / f"{name}.npz", a=np.arange(10))
        save_figure(tmp_path / f"{name}.png", figure, {"Source": "these"})
    for ending in ("npz", "png"):
        first, second = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("first", "second"))
        assert first == second


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"a\.json not found: check the folder, or run the step that writes it"),
        (b'{"a": 1,\n "b": }', r"a\.json is not valid JSON \(line 2: Expecting value at column 7\): write it again"),
        (b'["a", "b', r"a\.json is not valid JSON \(line 1: Unterminated string starting at column 7\)"),
        (b"", r"a\.json is not valid JSON \(line 1: .*\)"),
        (b'{"a": "\xe9"}', r"a\.json is not UTF-8 text \(byte 7\)"),
        (b"[" * 100_000, r"a\.json nests too deeply"),
    ],
    ids=["missing", "malformed", "cut off", "empty", "not UTF-8", "nested"],
)
def test_unreadable_json_is_named_with_the_place(tmp_path, content, said):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '{"captions": ["","",NaN]}',
            "captions[2]: NaN is not a finite number): write every value of captions as text",
        ),
        ('{"a": [0, 1e999]}', "a[1]: 1e999 is not a finite number): write text or an ordinary number there"),
        ('{"a": 0.5, "b": {"c d": [[], [-Infinity]]}}', "(b['c d'][1][0]: -Infinity is not a finite number)"),
        ('{"names": {"7": "", "8": Infinity}}', "names['8']: Infinity is not a finite number): write every value of"),
        ('{"version": NaN, "license": "free"}', "version: NaN is not a finite number): write text or an ordinary"),
        ("-1e400", "JSON (-1e400 is not a finite number): write text or an ordinary number there"),
        ('{"ids": [1, ' + 5000 * "7" + "]}", "ids[1]: an integer of 5000 digits is too long): write text"),
        ('[{"a": 1}, {"b": {"a": 1, "a": 2}}]', "[1].b: the key 'a' stands twice): leave one of them out"),
        ('{"a": {"b": 1, "b": 2}, "c": "text"}', "a: the key 'b' stands twice): leave one of them out"),
        ('{"a": NaN, "a": 1}', "JSON (the key 'a' stands twice): leave one of them out"),
        ('{"a": {"b": NaN, "b": 1}, "a": 2}', "JSON (the key 'a' stands twice): leave one of them out"),
        ('{"a": {"b": 1e999}, "c": [NaN]}', "a.b: 1e999 is not"),
        ("[NaN, " + 100_000 * "[", "nests too deeply"),
        ('[NaN,\n"a" "b"]', "line 2: Expecting ',' delimiter at column 5"),
        (900 * "[" + "NaN" + 900 * "]", "...: NaN is not a finite number"),
        ('{"\\ud800\\n": NaN}', r"['\ud800\n']: NaN is not a finite number"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_place_and_a_remedy(tmp_path, content, said):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        read_json(tmp_path / "a.json")
    assert str(caught.value).startswith(f"{tmp_path}/a.json ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_numbers_that_look_odd_and_are_finite_are_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1e-999, -0.0, 1E308, ' + 4000 * "7" + '], "b": {"a": "NaN", "A": []}}')
    assert read_json(tmp_path / "a.json") == {"a": [0.0, 0.0, 1e308, int(4000 * "7")], "b": {"a": "NaN", "A": []}}


def test_a_text_that_no_file_can_hold_is_written_with_an_escape(tmp_path):
    write_text(tmp_path / "a", "ü \udce6")
    assert (tmp_path / "a").read_bytes() == "ü \\udce6".encode()


def test_a_path_is_the_text_that_its_bytes_are(tmp_path):
    assert path_text(tmp_path / "ü 日本") == f"{tmp_path}/ü 日本"
    assert path_text(os.fsdecode(b"a/\xe9")) == "a/\\udce9"


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: b"text", lambda whole: whole[: len(whole) // 2]])
def test_a_damaged_npz_file_is_named_with_the_remedy(tmp_path, damage):
    write_arrays(tmp_path / "val.npz", a=np.arange(1000))
    (tmp_path / "val.npz").write_bytes(damage((tmp_path / "val.npz").read_bytes()))
    with pytest.raises(UserError, match=r"val\.npz is not a readable NPZ file \(.*: delete it and run the step again"):
        read_arrays(tmp_path / "val.npz")


def test_nobody_is_told_to_delete_an_npz_file_of_their_own(tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"mine\.npz is not a readable .*: give the path of one that a step wrote$"):
        read_arrays(tmp_path / "mine.npz")


def test_a_missing_npz_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.npz not found: run the step that writes it"):
        read_arrays(tmp_path / "a.npz")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_object_arrays_are_refused_and_not_unpickled(tmp_path):
    sprung = tmp_path / "sprung"
    np.savez(tmp_path / "a.npz", a=np.array([Trap(sprung)], dtype=object))
    with pytest.raises(UserError, match=r"a\.npz is not a readable NPZ file \(Object arrays cannot be loaded"):
        read_arrays(tmp_path / "a.npz")
    assert not sprung.exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)["a"]
    assert sprung.exists()


@pytest.mark.parametrize("size", [0, 1, 100, 1_000_000])
def test_the_hash_of_a_file_is_the_sha_256_of_its_content(tmp_path, size):
    content = bytes(index % 251 for index in range(size))
    (tmp_path / "a").write_bytes(content)
    assert file_hash(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_the_hash_of_a_text_is_that_of_the_file_that_holds_it(tmp_path):
    text = json.dumps({"ü": 1}, ensure_ascii=False)
    write_text(tmp_path / "a", text)
    assert text_hash(text) == file_hash(tmp_path / "a")
