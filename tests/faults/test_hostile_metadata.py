"""Metadata, assignments and command-line shares: pairs that keep the contract, or one sentence."""

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenalign.data.embeddings import ID_LENGTH, CheckedSet, EmbeddingFiles, check_set, open_set
from frozenalign.data.splits import SPLITS, SplitIndex
from frozenalign.system.errors import UserError
from tests.conftest import related_embeddings, write_set
from tests.faults.property import (
    altered,
    answer,
    assert_one_sentence,
    cases,
    damaged,
    ended,
    refusal,
    scalars,
    texts,
    values,
)
from workflow.scripts.split import main as split

NAME = "train2017_metadata.json"
IMAGES, TEXTS, IDS = related_embeddings(8, 3)
FULL = {
    "image_ids": IDS,
    "captions": [f"caption {i}" for i in range(24)],
    "image_files": {str(i): f"images/{i}.png" for i in IDS},
}
UNIQUE = {"image_ids": [str(i) for i in IDS], "unique_image_ids": sorted({str(i) for i in IDS})}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    write_set(folder, IMAGES, TEXTS, FULL)
    return folder


@pytest.fixture(scope="module")
def unique_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unique")
    write_set(folder, IMAGES[::3].contiguous(), TEXTS, UNIQUE)
    return folder


def keeps_the_contract(checked: CheckedSet) -> None:
    index, metadata = checked.index, checked.metadata
    assert len(index.pair_image) == len(metadata.image_ids) == checked.texts.rows == 24
    assert index.pair_image.min() >= 0
    assert index.pair_image.max() < len(index.image_ids) == len(set(index.image_ids.tolist()))
    assert index.image_rows.max() < checked.images.rows
    assert (index.image_ids[index.pair_image] == metadata.image_ids).all()
    assert all(len(name.encode()) > 0 or name == "" for name in metadata.image_ids.tolist())
    assert metadata.captions is None or [type(text.encode()) for text in metadata.captions] == [bytes] * 24
    assert all(isinstance(name, str) for item in metadata.image_files.items() for name in item)


def check(folder: Path, content: bytes) -> str | None:
    (folder / NAME).write_bytes(content)
    return answer(lambda: check_set(EmbeddingFiles.of(folder, "train2017")), "train2017_", keeps_the_contract)


def written(document: object) -> bytes:
    return json.dumps(document).encode("ascii")


@cases(220)
@given(altered(FULL))
def test_one_value_of_the_metadata_replaced(folder, document):
    check(folder, written(document))


@cases(110)
@given(altered(UNIQUE))
def test_one_value_replaced_where_images_have_one_row_each(unique_folder, document):
    check(unique_folder, written(document))


@cases(110)
@given(damaged(written(FULL)))
def test_accidents_of_the_metadata(folder, content):
    check(folder, content)


@pytest.mark.soak
@cases(3_000, derandomize=False)
@given(st.one_of(altered(FULL).map(written), damaged(written(FULL))))
def test_many_more_accidents_of_the_metadata(folder, content):
    check(folder, content)


@cases(80)
@given(values)
def test_any_other_json(folder, document):
    assert "train2017_metadata.json" in check(folder, written(document))


@cases(110)
@given(st.lists(scalars, min_size=8, max_size=8))
def test_ids_of_any_kind(folder, images):
    check(folder, written({"image_ids": [image for image in images for _ in range(3)]}))


@cases(110)
@given(st.lists(texts, min_size=8, max_size=8, unique=True))
def test_ids_of_any_text_stay_apart(folder, images):
    said = check(folder, written({"image_ids": [image for image in images for _ in range(3)]}))
    proper = all(len(image) <= ID_LENGTH and "\0" not in image and image.isprintable() for image in images)
    assert said is None or not proper


def ids(*first: object) -> bytes:
    return written({"image_ids": [*first, *IDS[len(first) :]]})


HUGE = b'{"image_ids": [' + b"1" * 5001 + b"]}"
REFUSED = {
    "empty": (b"", "line 1"),
    "blank": (b" \n ", "line 2"),
    "list": (b"[]", "image_ids"),
    "mapping": (b"{}", "image_ids"),
    "no ids": (b'{"image_ids": []}', "at least one id"),
    "ids in a mapping": (b'{"image_ids": {"a": 1}}', "at least one id"),
    "NaN": (b'{"image_ids": [NaN]}', "image_ids[0]: NaN is not a finite number"),
    "infinity": (b'{"image_ids": [1, -Infinity]}', "image_ids[1]: -Infinity is not a finite number"),
    "infinite all the same": (b'{"image_ids": [1e999]}', "image_ids[0]: 1e999 is not a finite number"),
    "caption that is NaN": (written(FULL | {"captions": ["a"] * 23 + [math.nan]}), "captions[23]: NaN is not"),
    "caption that is null": (written(FULL | {"captions": ["a"] * 23 + [None]}), "captions[23] is not text: write"),
    "id that is null": (ids(1, None), "image_ids[1] is None: ids must be all integers or all text"),
    "ids that were integers": (ids(*map(float, IDS)), "image_ids[0] is 1000.0: ids must be all integers or all text"),
    "image file that is NaN": (written(FULL | {"image_files": {"7": "a", "8": math.nan}}), "image_files['8']: NaN is"),
    "integer of 5,001 digits": (HUGE, "digits"),
    "integer of 300 digits": (ids(*[10**300] * 3), f"at most {ID_LENGTH}"),
    "id of a megabyte": (b'{"image_ids": ["' + b"x" * 999_000 + b'"]}', "999000 characters"),
    "id with an escape sequence": (ids("\x1b[2J", 7), r"image_ids[1] is 7"),
    "half a character": (written({"image_ids": ["\ud800"] * 24}), r"image_ids[0] is '\ud800'"),
    "NUL at the end": (written({"image_ids": ["a\0"] * 24}), r"image_ids[0] is 'a\x00'"),
    "key twice": (b'{"image_ids": [1], "image_ids": [2]}', "the key 'image_ids' stands twice"),
    "key twice inside": (b'{"image_ids": [1], "image_files": {"1": "", "1": "b"}}', "image_files: the key '1' stands"),
    "UTF-16": (written(FULL).decode().encode("utf-16"), "not UTF-8 text (byte 0)"),
    "Latin-1": (b'{"image_ids": ["\xe9"]}', "not UTF-8 text (byte 16)"),
    "surrogate in UTF-8": (b'{"image_ids": ["\xed\xa0\x80"]}', "not UTF-8 text (byte 16)"),
    "raw control character": (b'{"image_ids": ["\x01"]}', "control character"),
    "deep lists": (b"[" * 500_000, "nests too deeply"),
    "deep mappings": (b'{"a":' * 200_000, "nests too deeply"),
    "deep ids": (b'{"image_ids": ' + b"[" * 900 + b"]" * 900 + b"}", "image_ids[0] is [["),
    "captions as text": (written(FULL | {"captions": "x" * 24}), "`captions` must be a list"),
    "captions in a mapping": (written(FULL | {"captions": {}}), "`captions` must be a list"),
    "captions false": (written(FULL | {"captions": False}), "`captions` must be a list"),
    "too few captions": (written(FULL | {"captions": ["a"]}), "has 1 entries, image_ids 24"),
    "caption of half a character": (written(FULL | {"captions": ["a"] * 23 + ["\udfff"]}), "captions[23]"),
    "image files in a list": (written(FULL | {"image_files": []}), "`image_files` must map"),
    "image files false": (written(FULL | {"image_files": False}), "`image_files` must map"),
    "image file without a name": (written(FULL | {"image_files": {"1000": None}}), "`image_files` must map"),
    "image file of half a character": (written(FULL | {"image_files": {"1000": "\ud800"}}), "`image_files` must map"),
    "unique ids as a number": (written(FULL | {"unique_image_ids": 3}), "unique_image_ids must be a list"),
    "more bytes than rows": (b" " * 2_000_000, "has 2000000 bytes where at most"),
    "an id of differing rows": (written({"image_ids": [1] * 24}), "belong to image id '1' but differ"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_metadata_that_break_the_contract_are_refused_before_anything_is_written(folder, tmp_path, kind):
    content, said = REFUSED[kind]
    (folder / NAME).write_bytes(content)
    assert said in refusal(lambda: split(arguments(folder, tmp_path / "out")), "train2017_")
    assert not (tmp_path / "out").exists()


TAKEN = {
    "byte order mark": b"\xef\xbb\xbf" + written(FULL),
    "whole characters": written({"image_ids": [f"ä\u0301\u202e日本{i}" for i in IDS]}),
    "negative and large": written({"image_ids": [-(2**70) * i for i in IDS]}),
    "longest": written({"image_ids": [str(i).zfill(ID_LENGTH) for i in IDS]}),
    "null for what is left out": written(FULL | {"captions": None, "image_files": None, "unique_image_ids": None}),
    "further keys": written(FULL | {"license": {"a": [1.5]}}),
    "long captions": written(FULL | {"captions": ["x" * 40_000] * 24}),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_unusual_metadata_that_keep_the_contract_are_taken(folder, kind):
    assert check(folder, TAKEN[kind]) is None


def test_one_long_id_among_many_rows_takes_no_more_memory_than_the_rows_allow(tmp_path):
    import torch

    rows = torch.ones(100_000, 1)
    write_set(tmp_path, rows, rows, {"image_ids": [*map(str, range(99_999)), "x" * 1_000_000]})
    said = refusal(lambda: open_set(EmbeddingFiles.of(tmp_path, "train2017")), NAME)
    assert "image_ids[99999] has 1000000 characters" in said


def arguments(folder: Path, out: Path, *how: str) -> list[str]:
    how = how or ("--fractions", '{"train": 0.5, "val": 0.25, "test": 0.25}')
    return ["--dataset", "d", "--data-dir", str(folder), "--output-dir", str(out), *how]


ASSIGNED = {str(image): name for image, name in zip(sorted(set(IDS)), [*SPLITS] * 2 + ["unused"] * 2, strict=True)}


def divided(folder: Path, out: Path, assignments: bytes) -> str | None:
    """Split by assignments: either all files are written and sound, or none."""
    (folder / NAME).write_bytes(written(FULL))
    (folder / "assignments.json").write_bytes(assignments)
    how = arguments(folder, out, "--assignments", str(folder / "assignments.json"))
    said = answer(lambda: split(how), "assignments.json")
    assert out.exists() == (said is None)
    if said is None:
        rows = [SplitIndex.load(out / f"{name}.npz").text_rows.tolist() for name in SPLITS]
        assert len(set().union(*rows)) == sum(map(len, rows))
        for path in out.iterdir():
            path.unlink()
        out.rmdir()
    return said


@cases(80)
@given(altered(ASSIGNED))
def test_one_assignment_replaced(folder, tmp_path, document):
    divided(folder, tmp_path / "out", written(document))


@cases(50)
@given(damaged(written(ASSIGNED)))
def test_accidents_of_the_assignments(folder, tmp_path, content):
    divided(folder, tmp_path / "out", content)


KARPATHY = {
    "images": [
        {"cocoid": int(image_id), "split": name, "sentences": [{"raw": "a dog"}]}
        for image_id, name in ASSIGNED.items()
        if name != "unused"
    ],
    "dataset": "coco",
}


@cases(80)
@given(st.one_of(altered(KARPATHY).map(written), damaged(written(KARPATHY))))
def test_accidents_of_a_file_of_karpathys(folder, tmp_path, content):
    divided(folder, tmp_path / "out", content)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b'{"1000": "train", "1000": "test"}', b'{"1000": ["train"]}', b'{"1000": {}}', b"[" * 10**6],
    ids=["empty", "list", "null", "twice", "list of splits", "mapping", "deep"],
)
def test_assignments_that_divide_nothing(folder, tmp_path, content):
    assert divided(folder, tmp_path / "out", content)


def test_assignments_of_another_size_or_kind_of_file(folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(10**9)
    for name, said in (("pipe", "a pipe or a device"), ("large", "has 1000000000 bytes"), ("missing", "not found")):
        how = arguments(folder, tmp_path / "out", "--assignments", str(tmp_path / name))
        (folder / NAME).write_bytes(written(FULL))
        assert said in refusal(lambda how=how: split(how), name)


@cases(80)
@given(st.one_of(altered({"train": 0.5, "val": 0.25, "test": 0.25}).map(json.dumps), texts))
@pytest.mark.parametrize("option", ["--fractions", "--counts"])
def test_shares_of_any_kind(folder, tmp_path, option, text):
    (folder / NAME).write_bytes(written(FULL))
    try:
        split(arguments(folder, tmp_path / "out", f"{option}={text}"))
    except UserError as error:
        assert_one_sentence(str(error), "")


def ends_in_one_sentence(folder: Path, said: str) -> None:
    """The split step as a program: one line, status 1, at most 5 s of computing beside its start, at most 1 GB."""
    done = ended(folder, "-m", "workflow.scripts.split", *arguments(folder, folder / "out"))
    lines = done.said.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert said in lines[-1]
    assert all(line.startswith("checking ") for line in lines[:-1])
    assert done.status == 1
    assert done.seconds < 5 + 5
    assert done.memory < 10**9
    assert not (folder / "out").exists()


@pytest.fixture
def small(tmp_path) -> Path:
    write_set(tmp_path, IMAGES[:10], TEXTS[:10], {"image_ids": IDS[:10]})
    return tmp_path


def test_ten_million_ids_for_ten_rows_end_the_step_at_once(small):
    (small / NAME).write_bytes(b'{"image_ids": [' + b"1," * 9_999_999 + b"1]}")
    ends_in_one_sentence(small, "has 20000016 bytes where at most")


def test_a_hundred_megabytes_of_brackets_end_the_step_at_once(small):
    (small / NAME).write_bytes(b"[" * 10**8)
    ends_in_one_sentence(small, "has 100000000 bytes where at most")


def test_a_pipe_that_nobody_writes_to_ends_the_step_at_once(small):
    (small / NAME).unlink()
    os.mkfifo(small / NAME)
    ends_in_one_sentence(small, "is a pipe or a device")


@pytest.mark.soak
def test_a_gigabyte_of_brackets_ends_the_step_at_once(small):
    with (small / NAME).open("wb") as stream:
        for _ in range(100):
            stream.write(b"[" * 10**7)
    ends_in_one_sentence(small, "has 1000000000 bytes where at most")


@pytest.mark.soak
def test_brackets_as_many_as_a_large_set_may_have_bytes(small):
    """Metadata of 100,000 rows may have 206 MB: this much is read, and found to be no JSON, in the memory allowed."""
    import torch

    rows = torch.ones(100_000, 1)
    write_set(small, rows, rows, {})
    (small / NAME).write_bytes(b"[" * (195 << 20))
    ends_in_one_sentence(small, "nests too deeply")
