"""train2017 and val2017 as one data set: what the steps find is what they find where the same rows lie in one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.data.assignments import Assignments
from frozenalign.data.embeddings import EmbeddingFiles, check_set, open_set
from frozenalign.data.inputs import Manifest
from frozenalign.data.joined_rows import JoinedRows
from frozenalign.data.joined_sets import checked_as_one
from frozenalign.data.manifests import open_sets, open_split
from frozenalign.data.rows import open_rows
from frozenalign.data.splits import SplitIndex, every_row
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json
from tests.conftest import related_embeddings, write_set
from tests.whole_chain import divide, run_steps

IMAGES, CAPTIONS, OF_TRAIN = 60, 3, 45
PREFIXES = ("train2017", "val2017")


def parts() -> list[tuple[torch.Tensor, torch.Tensor, dict]]:
    """Return 60 images with three captions each: all of them, the first 45, the last 15."""
    images, texts, ids = related_embeddings(IMAGES, CAPTIONS)
    captions = [f"caption {i}" for i in range(len(ids))]
    files = {str(image_id): f"{image_id}.png" for image_id in ids}
    return [
        (
            images[where].clone(),
            texts[where].clone(),
            {"image_ids": ids[where], "captions": captions[where], "image_files": files},
        )
        for where in (slice(None), slice(OF_TRAIN * CAPTIONS), slice(OF_TRAIN * CAPTIONS, None))
    ]


def assigned(folder: Path, images: int = IMAGES) -> Path:
    """Write a split of the images in which every part has images of both sets."""
    path = folder / "assigned.json"
    names = {str(1000 + i): ("train", "val", "test", "train")[i % 4] for i in range(images)}
    path.write_text(json.dumps(names))
    return path


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """The same pairs in one set, and in two."""
    one, two = tmp_path / "one", tmp_path / "two"
    whole, *halves = parts()
    write_set(one, *whole)
    for prefix, part in zip(PREFIXES, halves, strict=True):
        write_set(two, *part, prefix=prefix)
    return one, two


def checked(folder: Path):
    return [check_set(EmbeddingFiles.of(folder, prefix)) for prefix in PREFIXES]


@pytest.mark.parametrize("dtypes", [(torch.float32,) * 2, (torch.float16,) * 2, (torch.float16, torch.bfloat16)])
def test_joined_rows_are_read_as_those_of_one_tensor(tmp_path, dtypes):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(n, 5, generator=generator).to(dtype) for n, dtype in zip((7, 4), dtypes, strict=True)]
    for name, part in zip("ab", rows, strict=True):
        torch.save(part, tmp_path / f"{name}.pt")
    joined = JoinedRows(open_rows(tmp_path / "a.pt"), open_rows(tmp_path / "b.pt"))
    whole = torch.cat([part.to(joined.dtype) for part in rows])
    assert (joined.rows, joined.width, joined.dtype) == (11, 5, torch.promote_types(*dtypes))
    assert all(torch.equal(joined.read(i, j), whole[i:j]) for i in range(11) for j in range(i, 12))
    assert torch.equal(torch.cat([chunk for _, chunk in joined.chunks()]), whole)
    asked = np.array([10, 0, 6, 7, 6])
    assert torch.equal(joined.gather(asked), whole[asked])
    for size in (1, 60, 1000):
        found = torch.cat([chunk.clone() for _, chunk in joined.select(np.array([1, 5, 6, 7, 10]), size)])
        assert torch.equal(found, whole[[1, 5, 6, 7, 10]])


def test_rows_of_other_widths_are_not_joined(tmp_path):
    for name, width in (("a", 5), ("b", 6)):
        torch.save(torch.randn(3, width), tmp_path / f"{name}.pt")
    with pytest.raises(UserError, match=r"b.pt has 6 dimensions but .*a.pt has 5: encode both with the same encoder"):
        JoinedRows(open_rows(tmp_path / "a.pt"), open_rows(tmp_path / "b.pt"))


@pytest.mark.parametrize("memory", ["1", "0.00001"], ids=["resident", "streamed"])
def test_the_steps_find_in_two_sets_what_they_find_in_one(folders, tmp_path, memory):
    path = assigned(tmp_path)
    one, two = (
        run_steps(data, tmp_path / f"of {data.name}", "--assignments", path, train_options=("--memory", memory))
        for data in folders
    )
    for name in ("rows", "splits", "images", "pairs", "warnings", "missing", "unused"):
        assert one.manifest[name] == two.manifest[name], name
    different = ("inputs", "models")
    assert {k: v for k, v in one.metrics.items() if k not in different} == {
        k: v for k, v in two.metrics.items() if k not in different
    }
    assert two.manifest["extra"] == {}
    assert two.metrics["extra"] is None
    assert "train2017 and val2017 as one: 60 images" in two.page
    assert "as one" not in one.page
    files = {f"{prefix}_{kind}_embeddings.pt" for prefix in PREFIXES for kind in ("image", "text")}
    assert files | {"pairs", "pairs of val2017"} <= set(two.manifest["hashes"])
    assert set(two.manifest["hashes"]) <= set(two.metrics["inputs"])


def test_a_set_whose_images_no_assignment_names_stays_an_extra_set(folders, tmp_path):
    found = read_json(divide(folders[1], tmp_path, "--assignments", assigned(tmp_path, OF_TRAIN)) / "manifest.json")
    assert (found["images"], found["extra"]["val2017"]["images"]) == (OF_TRAIN, IMAGES - OF_TRAIN)
    assert "val2017_metadata.json" not in found["hashes"]


@pytest.mark.parametrize(
    ("names", "both"),
    [
        ({"a": "train", "c": "test"}, True),
        ({"a": "train", "c": "unused"}, False),
        ({"a": "unused", "c": "test"}, False),
        ({"a": "train", "b": "test"}, False),
        ({"c": "train"}, False),
        ({"a.jpg": "train", "c.jpg": "val"}, True),
    ],
)
def test_assignments_name_both_sets_if_only_the_second_has_an_assigned_image(tmp_path, names, both):
    (tmp_path / "assigned.json").write_text(json.dumps(names))
    assert Assignments.read(tmp_path / "assigned.json", 3).name_both(["a", "b"], ["b", "c"]) is both


@pytest.mark.parametrize("end", ["image_embeddings.pt", "text_embeddings.pt"])
def test_later_steps_refuse_other_rows_of_the_second_set(folders, tmp_path, end):
    divided = divide(folders[1], tmp_path, "--assignments", assigned(tmp_path))
    path = folders[1] / f"val2017_{end}"
    torch.save(torch.load(path) + 1, path)
    with pytest.raises(UserError, match=f"val2017_{end} is not the file that the split in"):
        open_split(folders[1], divided, ["train"])


@pytest.mark.parametrize("unique", [(False, False), (True, False), (False, True), (True, True)])
def test_an_id_of_both_sets_with_equal_rows_is_one_image(tmp_path, unique):
    first, second = ([5, 3, 5, 4], [7, 3, 3, 8])
    for prefix, ids, alone in zip(PREFIXES, (first, second), unique, strict=True):
        of_images = sorted(set(ids)) if alone else ids
        rows = torch.eye(9)[of_images]
        metadata = {"image_ids": ids} | ({"unique_image_ids": of_images} if alone else {})
        write_set(tmp_path, rows, torch.randn(4, 6), metadata, prefix)
    joined = checked_as_one(*checked(tmp_path))
    assert sorted(joined.index.image_ids.tolist()) == ["3", "4", "5", "7", "8"]
    assert joined.index.image_ids[joined.index.pair_image].tolist() == list(map(str, first + second))
    of_pairs = joined.images.gather(joined.index.image_rows[joined.index.pair_image])
    assert torch.equal(of_pairs, torch.eye(9)[first + second])
    assert (np.diff(joined.index.image_rows) > 0).all()
    assert len(joined.index.further_rows) == 0
    assert joined.image_content.tolist() != [0] * 5
    assert len(set(joined.image_content.tolist())) == 5


def test_an_id_of_both_sets_whose_rows_differ_by_rounding_is_their_mean(folders, caplog):
    _, first, second = parts()
    second[2]["image_ids"][:3] = [1000] * 3
    second[0][:3] = first[0][0] * (1 + 1e-4)
    write_set(folders[1], *second, prefix="val2017")
    joined = checked_as_one(*checked(folders[1]))
    assert joined.index.further_rows.tolist() == [1, 2, 135, 136, 137]
    assert joined.index.further_image.tolist() == [0] * 5
    assert "with val2017_image_embeddings.pt after it: the rows of 1 of 59 images differ by rounding" in caplog.text


def test_an_id_of_both_sets_with_really_different_rows_is_refused(folders, tmp_path):
    _, _, second = parts()
    second[2]["image_ids"][:3] = [1004] * 3
    write_set(folders[1], *second, prefix="val2017")
    said = r"with val2017_image_embeddings.pt after it: rows 12 and 135 belong to image id '1004' but differ"
    with pytest.raises(UserError, match=said):
        divide(folders[1], tmp_path, "--assignments", assigned(tmp_path))


def test_no_image_of_both_sets_is_in_two_splits(folders, tmp_path):
    _, first, second = parts()
    second[2]["image_ids"][:3] = [1004] * 3
    second[0][:3] = first[0][12]
    write_set(folders[1], *second, prefix="val2017")
    divided = divide(folders[1], tmp_path, "--assignments", assigned(tmp_path), "--missing", "drop")
    rows = {name: set(SplitIndex.load(divided / f"{name}.npz").text_rows.tolist()) for name in ("train", "val", "test")}
    assert {12, 13, 14, 135, 136, 137} <= rows["train"]
    assert not rows["train"] & (rows["val"] | rows["test"])


def test_captions_of_one_set_alone_are_not_shown(folders, caplog):
    second = parts()[2]
    del second[2]["captions"]
    write_set(folders[1], *second, prefix="val2017")
    assert checked_as_one(*checked(folders[1])).metadata.captions is None
    assert "captions of one of the two sets are missing" in caplog.text


def test_other_ids_of_the_second_set_are_refused_where_it_is_evaluated(folders, tmp_path):
    divided = divide(folders[1], tmp_path, "--assignments", assigned(tmp_path))
    opened = open_sets(folders[1], divided, Manifest.read(divided))
    assert (
        every_row(opened.index).digest()
        == every_row(open_set(EmbeddingFiles.of(folders[0], "train2017")).index).digest()
    )
    path = folders[1] / "val2017_metadata.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"image_ids": content["image_ids"][::-1]}))
    with pytest.raises(UserError, match=r"val2017_metadata.json has other image ids than the split in"):
        open_sets(folders[1], divided, Manifest.read(divided))
