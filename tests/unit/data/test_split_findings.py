"""Warnings about a split: copies, sets that are too small, missing ids, shared captions, extra sets."""

import json
from pathlib import Path

import pytest
import torch

from frozenalign.data import split_findings as module
from frozenalign.data.copies import copy_counts
from frozenalign.data.splits import SplitIndex
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json
from tests.conftest import related_embeddings, write_set
from workflow.scripts.split import main as split

COUNTS = {"train": 60, "val": 60, "test": 60}


def parts(images: int = 200, captions: int = 2) -> tuple:
    x, y, ids = related_embeddings(images, captions)
    return x, y, {"image_ids": ids}


def manifest(folder: Path, *arguments: str, counts: dict[str, int] | None = COUNTS) -> dict:
    how = ["--counts", json.dumps(counts)] if counts else []
    split(["--dataset", "small", "--data-dir", str(folder), "--output-dir", str(folder / "split"), *how, *arguments])
    return read_json(folder / "split" / "manifest.json")


def test_nothing_is_said_of_a_sound_split(tmp_path, caplog):
    write_set(tmp_path, *parts())
    found = manifest(tmp_path)
    assert (found["warnings"], found["leak_check"], found["averaged_images"]) == ([], "passed", 0)
    assert "warning" not in caplog.text


def test_captions_numbered_as_images_are_copies_of_one_image(tmp_path, caplog):
    images, texts, metadata = parts(200, 5)
    ids = [f"{image_id}.jpg#{i % 5}" for i, image_id in enumerate(metadata["image_ids"])]
    write_set(tmp_path, images, texts, {"image_ids": ids})
    found = manifest(tmp_path)
    assert "60 of the 60 test images have a copy under another id in test (identical" in found["warnings"][0]
    assert "warning: 60 of the 60 test images have a copy" in caplog.text


def test_copies_that_differ_by_rounding_are_a_leak(tmp_path):
    images, texts, metadata = parts(200, 1)
    images[100:] = images[:100] * (1 + 1e-4)
    write_set(tmp_path, images, texts, metadata)
    names = ["train", "val", "test"]
    assigned = {str(1000 + i): names[i % 3] if i < 100 else names[(i + 1) % 3] for i in range(200)}
    (tmp_path / "assigned.json").write_text(json.dumps(assigned))
    found = manifest(tmp_path, "--assignments", str(tmp_path / "assigned.json"), counts=None)
    assert found["leak_check"].startswith("67 of the 67 test images have a copy under another id in train or val")
    assert "val does not measure unseen images" in found["leak_check"]
    assert found["warnings"][0] in found["leak_check"]


def test_copies_are_sought_around_the_median_of_all_training_images(tmp_path, monkeypatch):
    images = torch.randn(200, 8192, generator=torch.Generator().manual_seed(0)) + torch.arange(200.0)[:, None]
    write_set(tmp_path, images, torch.randn(200, 4), {"image_ids": list(range(200))})
    centres = []

    def kept(queries, gallery, centre):
        centres.append(centre)
        return copy_counts(queries, gallery, centre)

    monkeypatch.setattr(module, "copy_counts", kept)
    manifest(tmp_path)
    train = SplitIndex.load(tmp_path / "split" / "train.npz")
    assert torch.equal(centres[0], images[train.image_rows].median(0).values)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"val": 10}, ["val has few images, 10: T2I R@10 is 100 % for every head; give it more"]),
        ({"val": 11}, ["val has few images, 11: one is worth 9.1 points of a recall"]),
        ({"val": 50}, []),
        ({"test": 10}, ["test has few images, 10: T2I R@10 is 100 % for every head; give it more"]),
        ({"test": 11}, []),
    ],
)
def test_sets_of_few_images(tmp_path, counts, said):
    write_set(tmp_path, *parts())
    warnings = manifest(tmp_path, counts=COUNTS | counts)["warnings"]
    assert len(warnings) == len(said)
    assert all(found.startswith(expected) for found, expected in zip(warnings, said, strict=True))


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"val": 1}, "gives val 1 of the 200 images: a single image always ranks first"),
        ({"train": 1}, "gives train 1 of the 200 images: a head learns to tell images apart"),
    ],
)
def test_sets_of_one_image_are_refused(tmp_path, counts, said):
    write_set(tmp_path, *parts())
    with pytest.raises(UserError, match=said):
        manifest(tmp_path, counts=COUNTS | counts)


def test_the_default_split_of_few_images_is_refused_with_the_key_to_raise(tmp_path):
    write_set(tmp_path, *parts(100, 2))
    with pytest.raises(UserError, match=r"gives val 1 of the 100 images: .*; raise `split.fractions.val`"):
        manifest(tmp_path, "--fractions", '{"train": 0.8, "val": 0.01, "test": 0.04}', counts=None)


def test_a_group_of_identical_images_that_leaves_a_split_empty_is_said(tmp_path):
    images, texts, metadata = parts(60, 1)
    images[5:] = images[5]
    write_set(tmp_path, images, texts, metadata)
    with pytest.raises(UserError, match=r"55 images share one embedding and stay together"):
        manifest(tmp_path, counts={"train": 20, "val": 20, "test": 20})


def test_one_test_image_is_enough_to_go_on(tmp_path):
    write_set(tmp_path, *parts())
    assert len(manifest(tmp_path, counts=COUNTS | {"test": 1})["warnings"]) == 1


def test_dropped_ids_are_said_beside_every_number(tmp_path):
    write_set(tmp_path, *parts(180, 1))
    assigned = {str(1000 + i): ["train", "val", "test"][i % 3] for i in range(190)}
    (tmp_path / "assigned.json").write_text(json.dumps(assigned))
    arguments = ["--assignments", str(tmp_path / "assigned.json")]
    with pytest.raises(UserError, match="10 of the 190 assigned ids are not in the data set"):
        manifest(tmp_path, *arguments, counts=None)
    found = manifest(tmp_path, *arguments, "--missing", "drop", counts=None)
    assert found["missing"] == {"train": 4, "val": 3, "test": 3}
    assert found["warnings"] == [
        "10 assigned ids are not in the data set (train 4, val 3, test 3): results do not compare with those of the "
        "whole assignment"
    ]


def test_a_few_captions_that_images_share_are_no_doubt(tmp_path):
    images, texts, metadata = parts()
    texts[::20] = texts[0]
    write_set(tmp_path, images, texts, metadata)
    assert manifest(tmp_path)["warnings"] == []


def test_captions_that_images_share(tmp_path):
    images, texts, metadata = parts()
    texts[::2] = texts[0]
    write_set(tmp_path, images, texts, metadata)
    (said,) = manifest(tmp_path)["warnings"]
    assert said.startswith("60 of the 120 captions have the text embedding of a caption of another image")


def extra_set(folder: Path, images: torch.Tensor, texts: torch.Tensor, ids: list[int]) -> None:
    write_set(folder, images, texts, {"image_ids": ids}, prefix="val2017")


def test_an_extra_set_is_described_and_its_training_images_are_counted(tmp_path):
    images, texts, metadata = parts()
    write_set(tmp_path, images, texts, metadata)
    x, y, ids = related_embeddings(30, 2, seed=1)
    extra_set(tmp_path, x, y, [5000 + i for i in ids])
    assert manifest(tmp_path)["extra"]["val2017"]["warnings"] == []
    extra_set(tmp_path, images, texts, metadata["image_ids"])
    found = manifest(tmp_path)["extra"]["val2017"]
    assert (found["images"], found["pairs"]) == (200, 400)
    assert found["warnings"] == [
        f"60 of its 200 {said}"
        for name in ("train", "val")
        for said in (
            f"image ids are ids of {name} images",
            f"images are in {name} (identical, or different by rounding), so that it does not measure unseen images",
        )
    ]


def test_an_extra_set_has_the_doubts_of_a_test_set(tmp_path):
    write_set(tmp_path, *parts())
    x, y, ids = related_embeddings(8, 2, seed=1)
    x[2:8] = x[0]
    y[4:10] = y[4]
    extra_set(tmp_path, x, y, [5000 + i for i in ids])
    assert manifest(tmp_path)["extra"]["val2017"]["warnings"] == [
        "4 of its 8 images have a copy under another id, so that R@1 is low",
        "it has few images, 8: T2I R@10 is 100 % for every head; give it more",
        "6 of the 16 captions have the text embedding of a caption of another image, so that T2I R@1 cannot reach "
        "100 %",
    ]


def test_an_extra_set_of_one_image_is_a_set(tmp_path):
    write_set(tmp_path, *parts())
    x, y, ids = related_embeddings(1, 3, seed=1)
    extra_set(tmp_path, x, y, [5000 + i for i in ids])
    (said,) = manifest(tmp_path)["extra"]["val2017"]["warnings"]
    assert said.startswith("it has few images, 1")


@pytest.mark.parametrize(("factor", "said"), [(20, []), (900, ["more than 30 times as long as the median"])])
def test_a_long_row_is_said_and_makes_no_copies_of_others(tmp_path, factor, said):
    images, texts, metadata = parts()
    images[6:8, 0] += factor * images.norm(dim=1).median()
    write_set(tmp_path, images, texts, metadata)
    warnings = manifest(tmp_path)["warnings"]
    assert len(warnings) == len(said)
    assert all(part in text for part, text in zip(said, warnings, strict=True))


def test_unique_ids_in_another_order_than_as_many_pairs_are_said(tmp_path):
    images, texts, metadata = parts(200, 1)
    ids = metadata["image_ids"]
    write_set(tmp_path, images, texts, metadata | {"unique_image_ids": ids})
    assert manifest(tmp_path)["warnings"] == []
    write_set(tmp_path, images, texts, metadata | {"unique_image_ids": ids[::-1]})
    (said,) = manifest(tmp_path)["warnings"]
    assert said.startswith(
        "image rows are taken in the order of unique_image_ids, which differs from that of image_ids"
    )


@pytest.mark.parametrize("images", [2, 4])
def test_fewer_images_than_any_split_needs_are_refused_with_what_helps(tmp_path, images):
    write_set(tmp_path, *parts(images, 2))
    with pytest.raises(UserError, match=rf"{images} images where a split needs at least 5 \(train 2, val 2, test 1\)"):
        manifest(tmp_path, "--fractions", '{"train": 0.8, "val": 0.01, "test": 0.04}', counts=None)


@pytest.mark.parametrize("fault", ["nan", "width", "missing"])
def test_a_fault_of_the_extra_set_is_found_by_the_split(tmp_path, fault):
    write_set(tmp_path, *parts())
    x, y, ids = related_embeddings(30, 2, seed=1)
    if fault == "nan":
        y[3, 0] = float("nan")
    extra_set(tmp_path, x[:, :9].contiguous() if fault == "width" else x, y, ids)
    if fault == "missing":
        (tmp_path / "val2017_metadata.json").unlink()
    with pytest.raises(UserError, match="val2017_") as refused:
        manifest(tmp_path)
    assert not (tmp_path / "split" / "manifest.json").exists()
    if fault == "width":
        assert "has 9 dimensions but" in str(refused.value)
