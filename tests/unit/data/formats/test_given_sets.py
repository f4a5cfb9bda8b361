"""Which sets are read: those that the configuration names, or those of default names in another form."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from frozenalign.data.formats.given_sets import given_dir, sets_to_read
from frozenalign.system.errors import UserError

ROOT = Path(__file__).parents[4]
DEFAULT = ("train2017_image_embeddings.pt", "train2017_text_embeddings.pt", "train2017_metadata.json")
ARRAYS = ("train2017_image_embeddings.npy", "train2017_text_embeddings.npy", "train2017_metadata.csv")


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def read(folder) -> dict[str, list[str]]:
    sets = sets_to_read({"dir": str(folder)})
    return {prefix: [path.name for _, source in found.parts for path in source.files] for prefix, found in sets.items()}


@pytest.mark.parametrize("there", [DEFAULT, DEFAULT[:2], ()])
def test_the_default_form_is_read_by_no_step(tmp_path, there):
    touch(tmp_path, *there)
    assert read(tmp_path) == {}


def test_files_of_default_names_in_another_form_are_taken_as_if_named(tmp_path):
    touch(tmp_path, *ARRAYS)
    assert read(tmp_path) == {"train2017": list(ARRAYS)}


@pytest.mark.parametrize(
    ("content", "is_read"),
    [
        (torch.zeros(2, 3), False),
        (torch.nn.Parameter(torch.zeros(2, 3).bfloat16()), False),
        (torch.zeros(2, 3, dtype=torch.float64), True),
        (torch.zeros(2, 1, 3), True),
        ({"rows": torch.zeros(2, 3)}, True),
        (list(torch.zeros(2, 3)), True),
        ({"one": torch.zeros(2, 3), "other": torch.zeros(2, 3)}, False),
        ("text", False),
    ],
)
def test_a_pt_file_of_a_default_name_is_read_if_it_is_odd_and_clear(tmp_path, content, is_read):
    touch(tmp_path, *DEFAULT)
    torch.save(content, tmp_path / DEFAULT[1])
    assert read(tmp_path) == ({"train2017": list(DEFAULT)} if is_read else {})


def test_one_part_in_another_form_is_enough(tmp_path):
    touch(tmp_path, *DEFAULT[:2], ARRAYS[2])
    assert read(tmp_path) == {"train2017": [*DEFAULT[:2], ARRAYS[2]]}


def test_shards_of_default_names_are_found(tmp_path):
    shards = [f"train2017_image_embeddings-{number:05d}-of-00002.npy" for number in range(2)]
    touch(tmp_path, *shards, *ARRAYS[1:])
    assert read(tmp_path) == {"train2017": [*shards, *ARRAYS[1:]]}


def test_the_extra_set_is_read_with_the_other(tmp_path):
    extra = [name.replace("train", "val") for name in ARRAYS]
    touch(tmp_path, *DEFAULT, *extra)
    assert read(tmp_path) == {"train2017": list(DEFAULT), "val2017": extra}


def test_the_default_form_comes_before_another(tmp_path):
    touch(tmp_path, *DEFAULT, *ARRAYS)
    assert read(tmp_path) == {}


def test_two_other_forms_of_one_part_are_refused(tmp_path):
    touch(tmp_path, *ARRAYS, "train2017_image_embeddings.parquet")
    with pytest.raises(
        UserError, match=r"holds train2017_image_embeddings.npy, train2017_image_embeddings.parquet: leave"
    ):
        read(tmp_path)


def test_a_missing_part_is_named(tmp_path):
    touch(tmp_path, ARRAYS[0])
    with pytest.raises(UserError, match=r"train2017_text_embeddings\.\* not found: check `dir`"):
        read(tmp_path)


def test_texts_and_metadata_of_a_folder_need_no_names_of_their_own(tmp_path):
    for part, name in (("img_emb", "0.npy"), ("text_emb", "0.npy"), ("metadata", "0.parquet")):
        touch(tmp_path / part, name)
    found = sets_to_read({"images": str(tmp_path)})["train2017"]
    folders = [path.parent.name for _, source in found.parts for path in source.files]
    assert folders == ["img_emb", "text_emb", "metadata"]


@pytest.mark.parametrize("data_set", [{}, {"texts": "rows.npz"}])
def test_one_file_is_not_images_and_texts_alike(tmp_path, monkeypatch, data_set):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "rows.npz")
    with pytest.raises(UserError, match=r"rows\.npz is named for images and texts alike: name other files, or arrays"):
        sets_to_read({"images": "rows.npz", **data_set})


@pytest.mark.parametrize(
    ("data_set", "folder"),
    [
        ({"dir": "data/mine"}, "data/mine"),
        ({"images": "a/x.npy", "metadata": "b/x.csv"}, "b"),
        ({"images": "a/x.npz::rows"}, "a"),
    ],
)
def test_pictures_are_looked_for_where_the_data_lie(data_set, folder):
    assert given_dir(data_set) == Path(folder)


def test_sources_are_found_and_headers_read_without_pytorch():
    check = "import frozenalign.data.formats.opening as o, frozenalign.data.formats.given_sets as g, sys; "
    check += "g.sets_to_read({'dir': 'gone'}); list(o.ROW_FORMATS); sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, 'workflow/lib'); {check}"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
