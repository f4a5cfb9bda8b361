"""Each reader: number formats, ids, what is said of odd forms, and one sentence for everything that is refused."""

import json
import re
import struct
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from frozenalign.data.formats.opening import open_source
from frozenalign.data.formats.sources import find_source
from frozenalign.system.errors import UserError
from tests.conformance.forms import as_if_saved_on_a_gpu, lists

ROWS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
TENSOR = torch.from_numpy(ROWS)


def opened(path, name=None):
    return open_source(find_source(f"{path}::{name}" if name else str(path), "images"))


def values(rows) -> np.ndarray:
    return np.concatenate(list(rows.chunks()))


def refusal(path, name=None) -> str:
    with pytest.raises(UserError) as caught:
        values(opened(path, name))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def saved(path, content):
    torch.save(content, path)
    return path


def npy(path, array, **options):
    np.save(path, array, **options)
    return path


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def safetensors(path, header, numbers=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    return path


def parquet(path, **columns):
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path)
    return path


def hdf5(path, **members):
    with pytest.importorskip("h5py").File(path, "w") as file:
        for name, values in members.items():
            file[name] = values
    return path


@pytest.mark.parametrize("number", ["float16", "float32"])
def test_every_reader_keeps_the_number_format(tmp_path, number):
    rows = ROWS.astype(number)
    paths = [
        npy(tmp_path / "rows.npy", rows),
        npz(tmp_path / "rows.npz", rows=rows),
        saved(tmp_path / "rows.pt", {"rows": torch.from_numpy(rows)}),
        parquet(tmp_path / "rows.parquet", rows=lists(rows, variable=False)),
        hdf5(tmp_path / "rows.h5", rows=rows),
    ]
    for path in paths:
        assert opened(path).number == number
        assert values(opened(path)).tobytes() == rows.tobytes()


def test_bfloat16_is_kept_bit_for_bit(tmp_path):
    rows = TENSOR.bfloat16()
    content = rows.view(torch.uint8).numpy().tobytes()
    header = {"rows": {"dtype": "BF16", "shape": [6, 4], "data_offsets": [0, len(content)]}}
    for path in (saved(tmp_path / "rows.pt", [*rows]), safetensors(tmp_path / "rows.safetensors", header, content)):
        assert opened(path).number == "bfloat16"
        assert values(opened(path)).tobytes() == content


def test_float64_becomes_float32_and_this_is_said(tmp_path):
    rows = opened(npy(tmp_path / "rows.npy", ROWS.astype(np.float64) * 1e300))
    assert rows.number == "float32"
    assert rows.notes == (f"{tmp_path}/rows.npy holds float64: written as float32",)
    # Which the split refuses, with the number of the row.
    assert np.isinf(values(rows)).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TENSOR[:, None], "has the shape (6, 1, 4): taken as (6, 4)"),
        ({"rows": TENSOR}, "holds a dict: its tensor 'rows' is taken"),
        (OrderedDict(rows=TENSOR), "holds a dict: its tensor 'rows' is taken"),
        (list(TENSOR), "holds a list of 6 tensors: taken as rows"),
        (tuple(TENSOR.clone().split(1)), "holds a list of 6 tensors: taken as rows"),
        ({"rows": torch.nn.Parameter(TENSOR)}, "rows is a parameter: its values are taken"),
        ([row.clone().requires_grad_() for row in TENSOR], "requires a gradient: its values are taken"),
        (TENSOR.double(), "holds float64: written as float32"),
    ],
)
def test_what_is_no_plain_tensor_is_taken_and_this_is_said(tmp_path, content, said):
    rows = opened(saved(tmp_path / "rows.pt", content))
    assert any(said in note for note in rows.notes)
    assert np.array_equal(values(rows), ROWS)


def test_a_tensor_of_a_gpu_is_taken_and_this_is_said(tmp_path):
    as_if_saved_on_a_gpu(saved(tmp_path / "rows.pt", {"rows": TENSOR}))
    rows = opened(tmp_path / "rows.pt")
    assert any("rows was saved on cuda:0" in note for note in rows.notes)
    assert np.array_equal(values(rows), ROWS)


def test_a_view_of_a_larger_storage_is_read_from_its_place(tmp_path):
    rows = opened(saved(tmp_path / "rows.pt", {"rows": torch.cat([torch.zeros(3, 4), TENSOR])[3:]}))
    assert np.array_equal(values(rows), ROWS)


class Thing:
    """An object of a class that a reader does not know."""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TENSOR.T, "is a strided view: save it with `torch.save(tensor.contiguous(), path)`"),
        ({"a": TENSOR, "b": TENSOR}, "has 2 tensors with rows (a, b): name one of them, as in `"),
        ({"a": 1}, "has 0 tensors with rows (none)"),
        ([TENSOR[0], TENSOR[0, :3]], "tensor 1 has the shape (3,) in float32, the first (4,) in float32"),
        ([TENSOR[0], TENSOR[0].half()], "`torch.save(torch.stack(list(rows)), "),
        ([TENSOR, TENSOR], "tensor 0 has the shape (6, 4)"),
        ([TENSOR[0], None], "a list that is not of tensors alone"),
        ([], "a list that is not of tensors alone"),
        (TENSOR.int(), "holds int: save float32"),
        (TENSOR.to(torch.float8_e4m3fn), "holds float8_e4m3fn: save float32"),
        (TENSOR[0], "has the shape (4,): save one of shape (rows, width)"),
        (TENSOR[:0], "has the shape (0, 4): save one"),
        (TENSOR[None, :], "has the shape (1, 6, 4): save one"),
        (TENSOR.to_sparse(), "it holds an object of torch._utils _rebuild_sparse_tensor"),
        ("text", "holds a str: save one plain tensor"),
        (ROWS, "it holds an object of numpy"),
        (Thing(), "holds Python objects or is damaged"),
    ],
)
def test_what_is_ambiguous_or_no_matrix_is_refused_with_what_mends_it(tmp_path, content, said):
    assert said in refusal(saved(tmp_path / "rows.pt", content))


def test_archives_of_old_versions_are_named(tmp_path):
    torch.save(TENSOR, tmp_path / "rows.pt", _use_new_zipfile_serialization=False)
    assert "PyTorch before 1.6" in refusal(tmp_path / "rows.pt")


def test_a_name_is_only_for_what_has_names(tmp_path):
    assert "leave out `::x`" in refusal(saved(tmp_path / "rows.pt", TENSOR), "x")
    assert "leave out `::x`" in refusal(npy(tmp_path / "rows.npy", ROWS), "x")
    assert "has no tensor 'x': it has rows; correct" in refusal(saved(tmp_path / "a.pt", {"rows": TENSOR}), "x")
    assert "has no array 'x': it has rows; correct" in refusal(npz(tmp_path / "a.npz", rows=ROWS), "x")


@pytest.mark.parametrize("content", [{"rows": TENSOR}, [row.clone() for row in TENSOR], [*TENSOR], None])
def test_a_changed_value_is_found_by_the_checksum(tmp_path, content):
    path = saved(tmp_path / "rows.pt", content) if content is not None else npz(tmp_path / "rows.npz", rows=ROWS)
    whole = path.read_bytes()
    place = whole.index(ROWS[2].tobytes())
    path.write_bytes(whole[:place] + b"\1" + whole[place + 1 :])
    said = refusal(path)
    assert "checksum" in said or "CRC" in said


@pytest.mark.parametrize("offset", [2**40, -1])
def test_a_tensor_that_claims_more_than_there_is_is_refused(tmp_path, offset):
    path = saved(tmp_path / "rows.pt", {"rows": TENSOR})
    with zipfile.ZipFile(path) as archive:
        records = [(record.filename, archive.read(record)) for record in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records:
            # The offset stands between the storage and the shape.
            changed = content.replace(b"QK\0", b"Q\x8a\x06" + offset.to_bytes(6, "little", signed=True))
            assert changed != content or not name.endswith("data.pkl")
            archive.writestr(name, changed if name.endswith("data.pkl") else content)
    assert "claims more numbers than there are" in refusal(path)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (ROWS.astype(int), "holds int64: save float32, float16, bfloat16 or float64"),
        (ROWS.astype(complex), "holds complex128"),
        (ROWS > 0, "holds bool"),
        (ROWS[0], "has the shape (4,)"),
        (ROWS[:, :0], "has the shape (6, 0)"),
        (np.array([["a"]], dtype=object), "holds Python objects"),
        (np.zeros((1, 2**20 + 1), np.float16), "has rows of 1048577 numbers"),
    ],
)
def test_arrays_that_are_no_embeddings_are_refused(tmp_path, array, said):
    assert said in refusal(npy(tmp_path / "rows.npy", array))


def test_a_cut_off_array_is_refused(tmp_path):
    path = npy(tmp_path / "rows.npy", ROWS)
    path.write_bytes(path.read_bytes()[:-1])
    assert "cannot be read as .npy (it ends before row 6): copy or write it again" in refusal(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".parquet", ".arrow", ".feather", ".h5", ".pt"])
@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut off", b"\x80\2}q\0.", b"\xff" * 4096])
def test_a_damaged_file_is_one_sentence(tmp_path, suffix, content):
    (tmp_path / f"rows{suffix}").write_bytes(content)
    refusal(tmp_path / f"rows{suffix}")


def test_an_archive_in_columns_is_refused(tmp_path):
    assert "save np.ascontiguousarray(array)" in refusal(npz(tmp_path / "rows.npz", rows=np.asfortranarray(ROWS)))


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}, "holds F8_E4M3: save float32"),
        ({"dtype": "I64", "shape": [1, 2], "data_offsets": [0, 16]}, "holds I64"),
        ({"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 17]}, "cannot be read as .safetensors"),
        ({"dtype": "F32", "shape": [2, 2**60], "data_offsets": [0, 16]}, "has rows of"),
        ({"dtype": "F32", "shape": [2, 2], "data_offsets": [100, 116]}, "cannot be read as .safetensors"),
        ({"shape": [2, 2]}, "cannot be read as .safetensors"),
    ],
)
def test_headers_of_safetensors_that_do_not_fit_are_refused(tmp_path, described, said):
    assert said in refusal(safetensors(tmp_path / "rows.safetensors", {"rows": described}, bytes(16)))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([[1.0, 2.0], None], "has no numbers in row 1"),
        ([[1.0, 2.0], [1.0]], "has 1 numbers in row 1 and 2 in the first"),
        ([[1, 2], [3, 4]], "holds lists of int64: write float32"),
        ([b"12345678", b"12345678"], "has 0 columns with rows"),
        ([[["a"]], [["b"]]], "holds lists of list<"),
        ([[], []], "holds lists of null"),
    ],
)
def test_columns_that_are_no_embeddings_are_refused(tmp_path, column, said):
    pytest.importorskip("pyarrow")
    assert said in refusal(parquet(tmp_path / "rows.parquet", rows=column, image_id=[1, 2]))


def test_a_number_that_is_missing_in_a_row_is_nan_for_the_split_to_refuse(tmp_path):
    rows = opened(parquet(tmp_path / "rows.parquet", rows=[[1.0, None], [1.0, 2.0]]))
    assert np.isnan(values(rows)).tolist() == [[False, True], [False, False]]


def test_a_tensor_column_is_a_list_of_fixed_size(tmp_path):
    pa = pytest.importorskip("pyarrow")
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS)
    assert np.array_equal(values(opened(parquet(tmp_path / "rows.parquet", rows=column))), ROWS)


def test_a_sliced_column_begins_where_it_begins(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"rows": lists(ROWS, variable=True)}).slice(2)
    with pa.ipc.new_file(tmp_path / "rows.arrow", table.schema) as writer:
        writer.write_table(table)
    assert np.array_equal(values(opened(tmp_path / "rows.arrow")), ROWS[2:])


def test_one_data_set_an_image_is_a_row_in_the_order_of_the_numbers(tmp_path):
    rows = opened(hdf5(tmp_path / "rows.h5", **{str(number): ROWS[number % 6] for number in range(12)}))
    assert rows.ids() == [str(number) for number in range(12)]
    assert np.array_equal(values(rows), np.concatenate([ROWS, ROWS]))
    assert rows.notes == (f"{tmp_path}/rows.h5 has a data set for each of 12 images: each is a row",)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"1": ROWS[0], "2": ROWS[0, :3]}, "the entry of image '2' is not a row of 4 float32 numbers"),
        ({"1": ROWS, "2": ROWS}, "a data set of shape (6, 4) for image 1, which is more than one row"),
        ({"a": ROWS, "b": ROWS}, "has 2 data sets with rows (a, b): name one"),
        ({"a": ROWS.astype(int)}, "holds int64"),
    ],
)
def test_data_sets_that_are_no_embeddings_are_refused(tmp_path, members, said):
    assert said in refusal(hdf5(tmp_path / "rows.h5", **members))


def test_what_leads_to_another_file_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    hdf5(tmp_path / "other.h5", rows=ROWS)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("other.h5", "rows")
        layout = h5py.VirtualLayout(ROWS.shape, ROWS.dtype)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "rows", ROWS.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", ROWS.shape, ROWS.dtype, external=[(str(tmp_path / "other.h5"), 0, 96)])
    assert "leads to another file" in refusal(tmp_path / "rows.h5", "linked")
    assert "takes its numbers from other files" in refusal(tmp_path / "rows.h5", "virtual")
    assert "takes its numbers from other files" in refusal(tmp_path / "rows.h5", "external")


@pytest.mark.parametrize(("suffix", "module"), [(".parquet", "pyarrow"), (".arrow", "pyarrow"), (".h5", "h5py")])
def test_a_missing_library_is_one_sentence_with_the_command(tmp_path, monkeypatch, suffix, module):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / f"rows{suffix}").touch()
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path))}/rows{suffix} needs the library {module}, which cannot be imported \(.*\): run "
        r"`pip install -r envs/requirements-formats.txt`",
        refusal(tmp_path / f"rows{suffix}"),
    )


@pytest.mark.parametrize(
    ("second", "said"),
    [(ROWS[:, :3], "3 float32"), (ROWS.astype(np.float16), "4 float16")],
)
def test_shards_that_differ_are_refused(tmp_path, second, said):
    npy(tmp_path / "part_0.npy", ROWS)
    npy(tmp_path / "part_1.npy", second)
    with pytest.raises(UserError, match=rf"part_1\.npy has rows of {said} numbers but \S+/part_0\.npy of 4 float32"):
        opened(tmp_path)


def test_ids_are_whole_numbers_or_text(tmp_path):
    assert opened(npz(tmp_path / "a.npz", rows=ROWS, image_ids=np.arange(6))).ids() == [str(each) for each in range(6)]
    assert opened(npz(tmp_path / "b.npz", rows=ROWS, image_ids=np.array(list("abcdef")))).ids() == list("abcdef")
    assert opened(hdf5(tmp_path / "c.h5", rows=ROWS, image_id=list("abcdef"))).ids() == list("abcdef")
    assert opened(saved(tmp_path / "d.pt", {"rows": TENSOR, "ids": list("abcdef")})).ids() == list("abcdef")
    with pytest.raises(UserError, match=r"image_ids: row 0 has no image id"):
        opened(npz(tmp_path / "e.npz", rows=ROWS, image_ids=np.ones(6))).ids()
    with pytest.raises(UserError, match=r"has 6 rows but 5 image ids"):
        opened(npz(tmp_path / "f.npz", rows=ROWS, image_ids=np.arange(5))).ids()
    with pytest.raises(UserError, match=r"cannot be read as .npz"):
        opened(npz(tmp_path / "g.npz", rows=ROWS, image_ids=np.array([{}] * 6))).ids()
