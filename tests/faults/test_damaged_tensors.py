"""Embedding files after accidents, from other programs, and made to harm: rows as written, or one sentence."""

import errno
import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frozenalign.data.embeddings import CheckedSet, EmbeddingFiles, check_set
from frozenalign.data.row_checks import check_rows
from frozenalign.data.rows import MAX_WIDTH, RowFile, open_rows
from frozenalign.data.tensor_header import matrix_width
from frozenalign.system.errors import UserError
from tests.conftest import related_embeddings, write_set
from tests.faults.property import answer, cases, damaged, flipped, refusal
from workflow.scripts.split import main as split

NAME = "train2017_text_embeddings.pt"
IMAGES, TEXTS, IDS = related_embeddings(8, 3)


def saved(content: object, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


WHOLE = saved(TEXTS)


def repacked(whole: bytes, compression: int = zipfile.ZIP_STORED, **changed: bytes | None) -> bytes:
    """Return an archive with records replaced, by the last part of their names; None leaves one out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w", compression) as new:
        for name in old.namelist():
            if (content := changed.get(Path(name).stem, old.read(name))) is not None:
                new.writestr(name, content)
    return stream.getvalue()


def description(*, values: int, offset: int, size: tuple, strides: tuple, kind: str = "FloatStorage") -> bytes:
    """Return a pickle in which a tensor claims what one likes."""

    class Storage:
        pass

    class Tensor:
        def __reduce__(self):
            arguments = (Storage(), offset, size, strides, False, __import__("collections").OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            return ("storage", getattr(torch, kind), "0", "cpu", values) if isinstance(item, Storage) else None

    stream = io.BytesIO()
    Pickler(stream, 2).dump(Tensor())
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    write_set(tmp_path, IMAGES, TEXTS, {"image_ids": IDS})
    return tmp_path


def check(folder: Path) -> CheckedSet:
    return check_set(EmbeddingFiles.of(folder, "train2017"))


def as_written(checked: CheckedSet) -> None:
    assert torch.equal(checked.texts.read(0, 24), TEXTS)
    assert checked.index.pair_image.tolist() == [i // 3 for i in range(24)]


def sound(file: RowFile) -> None:
    """Whatever was made of the file, all its rows can be read and are embeddings."""
    check_rows(file)
    rows = file.read(0, file.rows)
    assert rows.shape == (file.rows, file.width)
    assert rows.isfinite().all()
    assert (rows != 0).any(1).all()


def sound_or_refused(path: Path) -> str | None:
    def read() -> RowFile:
        file = open_rows(path)
        check_rows(file)
        return file

    matrix_width(path)
    return answer(read, NAME, sound)


def test_a_whole_file_is_taken_also_through_a_link(folder):
    assert answer(lambda: check(folder), NAME, as_written) is None
    (folder / NAME).rename(folder / "elsewhere.pt")
    (folder / NAME).symlink_to(folder / "elsewhere.pt")
    assert answer(lambda: check(folder), NAME, as_written) is None


def test_a_file_without_checksums_and_a_file_with_a_parameter_are_taken(folder):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(TEXTS, folder / NAME)
    finally:
        torch.serialization.set_crc32_options(True)
    assert answer(lambda: check(folder), NAME, as_written) is None
    torch.save(torch.nn.Parameter(TEXTS), folder / NAME)
    assert answer(lambda: check(folder), NAME, as_written) is None


def test_a_file_cut_off_at_any_byte_is_refused(folder):
    for length in range(len(WHOLE)):
        (folder / NAME).write_bytes(WHOLE[:length])
        refusal(lambda: open_rows(folder / NAME), NAME)


def a_flipped_bit_changes_no_row_unseen(folder, content):
    (folder / NAME).write_bytes(content)
    answer(lambda: check(folder), NAME, as_written)


@cases(160)
@given(flipped(WHOLE))
def test_a_flipped_bit_changes_no_row_unseen(folder, content):
    a_flipped_bit_changes_no_row_unseen(folder, content)


@pytest.mark.soak
def test_no_bit_flipped_in_any_byte_changes_a_row_unseen(folder):
    for place in range(len(WHOLE)):
        changed = bytearray(WHOLE)
        changed[place] ^= 1 << place % 8
        a_flipped_bit_changes_no_row_unseen(folder, bytes(changed))


def test_a_disk_that_fails_in_the_middle_of_a_file_names_the_rows(folder, monkeypatch):
    file = open_rows(folder / "train2017_text_embeddings.pt")

    class FailingDisk(io.FileIO):
        def readinto(self, view) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", lambda path, *mode, **options: FailingDisk(str(path)))
    with pytest.raises(UserError, match=r"pt: rows 3 to 6 cannot be read \(Input/output error\): check the disk"):
        file.read(3, 7)


def test_a_changed_value_is_found_by_the_checksum(folder):
    place = WHOLE.index(TEXTS.numpy().tobytes())
    (folder / NAME).write_bytes(WHOLE[: place + 9] + bytes([WHOLE[place + 9] ^ 1]) + WHOLE[place + 10 :])
    assert "do not match their checksum" in refusal(lambda: check(folder), NAME)


@cases(160)
@given(damaged(WHOLE))
def test_accidents_leave_sound_rows_or_one_sentence(folder, content):
    (folder / NAME).write_bytes(content)
    sound_or_refused(folder / NAME)


@pytest.mark.soak
@cases(5_000, derandomize=False)
@given(damaged(WHOLE))
def test_many_more_accidents(folder, content):
    (folder / NAME).write_bytes(content)
    sound_or_refused(folder / NAME)


near = st.integers(-2, 30)
claims = st.one_of(near, st.sampled_from([2**31, 2**32, 10**9, 10**12, 2**62, 2**63, 2**64, -(2**63), 10**30]))


@cases(160)
@given(claims, claims, st.lists(claims, max_size=3), st.lists(claims, max_size=3))
def test_claims_beyond_the_file_are_refused_at_once(folder, values, offset, size, strides):
    claimed = description(values=values, offset=offset, size=tuple(size), strides=tuple(strides))
    (folder / NAME).write_bytes(repacked(WHOLE, data=claimed))
    sound_or_refused(folder / NAME)


@pytest.mark.parametrize("kind", ["FloatStorage", "HalfStorage", "BFloat16Storage"])
def test_a_trillion_rows_in_a_small_file_are_refused(folder, kind):
    claimed = description(values=10**13, offset=0, size=(10**12, 9), strides=(9, 1), kind=kind)
    (folder / NAME).write_bytes(repacked(WHOLE, data=claimed))
    assert "damaged" in refusal(lambda: open_rows(folder / NAME), NAME)


@pytest.mark.parametrize("size", [0, 4, 863, 864, 865, 2000])
def test_a_storage_that_is_not_as_long_as_its_tensor(folder, size):
    content = (TEXTS.numpy().tobytes() * 3)[:size]
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as old, zipfile.ZipFile(folder / NAME, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith("data/0") else old.read(name))
    said = answer(lambda: check(folder), NAME, as_written)
    assert (said is None) == (size >= TEXTS.nbytes)


def floats(dtype: torch.dtype) -> torch.Tensor:
    return torch.ones(24, 9).to(dtype)


TAKEN = {torch.float32, torch.float16, torch.bfloat16}
DTYPES = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)} - TAKEN, key=str)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("ignore")
def test_no_other_number_format_is_taken(folder, dtype):
    try:
        if dtype in (torch.qint8, torch.quint8, torch.qint32):
            content = torch.quantize_per_tensor(torch.ones(24, 9), 0.1, 0, dtype)
        else:
            content = torch.empty(24, 9, dtype=dtype) if "bits" in str(dtype) or "x2" in str(dtype) else floats(dtype)
        whole = saved(content)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        pytest.skip(f"PyTorch does not save it: {error}")
    (folder / NAME).write_bytes(whole)
    refusal(lambda: open_rows(folder / NAME), NAME)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


OTHER_CONTENTS = {
    "number": lambda: saved(torch.tensor(1.0)),
    "vector": lambda: saved(torch.ones(24)),
    "cube": lambda: saved(torch.ones(24, 3, 3)),
    "no rows": lambda: saved(torch.ones(0, 9)),
    "no columns": lambda: saved(torch.ones(24, 0)),
    "sparse": lambda: saved(torch.eye(24).to_sparse()),
    "sparse rows": lambda: saved(torch.eye(24).to_sparse_csr()),
    "transposed": lambda: saved(torch.ones(9, 24).T),
    "expanded": lambda: saved(torch.ones(1, 9).expand(24, 9)),
    "every other column": lambda: saved(torch.ones(24, 18)[:, ::2]),
    "without memory": lambda: saved(torch.ones(24, 9, device="meta")),
    "too wide": lambda: saved(torch.ones(1, MAX_WIDTH + 1)),
    "nested": lambda: saved(torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(3, 3)])),
    "mapping": lambda: saved({"embeddings": TEXTS}),
    "list": lambda: saved([TEXTS]),
    "module": lambda: saved(torch.nn.Linear(3, 3)),
    "weights": lambda: saved(torch.nn.Linear(3, 3).state_dict()),
    "text": lambda: saved("text"),
    "nothing": lambda: saved(None),
    "array": lambda: saved(np.ones((24, 9))),
    "many tensors": lambda: saved([torch.ones(1) for _ in range(3000)]),
    "object": lambda: saved(Payload()),
    "old format": lambda: saved(TEXTS, _use_new_zipfile_serialization=False),
    "other byte order": lambda: repacked(WHOLE, byteorder=b"big"),
    "unknown byte order": lambda: repacked(WHOLE, byteorder=b"middle"),
    "compressed": lambda: repacked(WHOLE, zipfile.ZIP_DEFLATED),
    "no description": lambda: repacked(WHOLE, data=None),
    "empty description": lambda: repacked(WHOLE, data=b""),
    "description of other protocol": lambda: repacked(WHOLE, data=pickle.dumps([1], 5)),
    "only a zip": lambda: repacked(WHOLE, data=None, version=None, byteorder=None),
    "empty": lambda: b"",
    "line of text": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
    "end of a zip": lambda: b"PK\x05\x06" + bytes(18),
    "NumPy file": lambda: b"\x93NUMPY\x01\x00v\x00" + b" " * 118,
}


@pytest.mark.parametrize("kind", OTHER_CONTENTS)
def test_other_contents_are_refused_by_the_split_step_before_it_writes(folder, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (folder / NAME).write_bytes(OTHER_CONTENTS[kind]())
        arguments = ["--dataset", "d", "--data-dir", str(folder), "--output-dir", str(folder / "out")]
        fractions = '{"train": 0.5, "val": 0.25, "test": 0.25}'
        refusal(lambda: split([*arguments, "--fractions", fractions]), NAME)
    assert not (folder / "out").exists()
    assert not Path("unpickled").exists()
    assert matrix_width(folder / NAME) is None or kind not in ("empty", "object", "old format")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_row_that_is_no_embedding_is_named_wherever_it_stands(folder, dtype, value):
    for row in range(24):
        rows = TEXTS.clone().to(dtype)
        rows[row] = value
        torch.save(rows, folder / NAME)
        assert f"(first: {row})" in refusal(lambda: check(folder), NAME)


def test_a_single_row_is_rows_enough_but_no_split(tmp_path):
    write_set(tmp_path, IMAGES[:1], TEXTS[:1], {"image_ids": [7]})
    assert len(check(tmp_path).index.image_ids) == 1
    arguments = ["--dataset", "d", "--data-dir", str(tmp_path), "--output-dir", str(tmp_path / "out")]
    with pytest.raises(UserError, match="has 1 images where a split needs at least 5"):
        split([*arguments, "--fractions", '{"train": 0.5, "val": 0.25, "test": 0.25}'])
    assert not (tmp_path / "out").exists()


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_what_cannot_be_read(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


def without_permission(path: Path) -> None:
    path.write_bytes(WHOLE)
    path.chmod(0)


ODD_FILES = [os.mkfifo, Path.mkdir, link_to_nothing, link_to_itself, link_to_a_device, link_to_what_cannot_be_read]


@pytest.mark.parametrize("make", ODD_FILES)
@pytest.mark.parametrize("name", [NAME, "train2017_image_embeddings.pt", "train2017_metadata.json"])
def test_what_is_no_file_is_refused_without_waiting_for_it(folder, make, name):
    (folder / name).unlink()
    make(folder / name)
    refusal(lambda: check(folder), name)
    assert matrix_width(folder / name) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", [NAME, "train2017_metadata.json"])
def test_a_file_that_may_not_be_read_is_named(folder, name):
    without_permission(folder / name)
    assert "Permission denied" in refusal(lambda: check(folder), name)
