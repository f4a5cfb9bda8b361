"""Splits: by image, reproducible, without leaks, with identical images together."""

import json

import numpy as np
import pytest

from frozenalign.data.embeddings import EmbeddingFiles, check_set
from frozenalign.data.splits import (
    SplitIndex,
    counts_from_fractions,
    refuse_leaks,
    select_images,
    split_by_counts,
    tuning_sample,
)
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json
from workflow.scripts.split import main as split

DISTINCT = np.arange(1000)


def test_counts_are_kept_and_the_rest_is_unused():
    names = split_by_counts(DISTINCT, {"train": 600, "val": 100, "test": 200}, seed=1)
    assert {name: int((names == name).sum()) for name in set(names)} == {
        "train": 600,
        "val": 100,
        "test": 200,
        "unused": 100,
    }


def test_the_seed_decides():
    counts = {"train": 500, "val": 250, "test": 250}
    first = split_by_counts(DISTINCT, counts, seed=1)
    assert (first == split_by_counts(DISTINCT, counts, seed=1)).all()
    assert (first != split_by_counts(DISTINCT, counts, seed=2)).any()


def test_images_of_equal_content_stay_together():
    content = np.arange(1000) // 4
    names = split_by_counts(content, {"train": 600, "val": 200, "test": 200}, seed=0)
    assert all(len(set(names[content == group])) == 1 for group in range(250))


def test_the_default_fractions_of_coco():
    assert counts_from_fractions({"train": 0.80, "val": 0.01, "test": 0.04}, 118287) == {
        "train": 94630,
        "val": 1183,
        "test": 4731,
    }


def test_fractions_that_add_up_to_one_never_ask_for_more_images_than_there_are():
    counts = counts_from_fractions({"train": 0.5, "val": 0.25, "test": 0.25}, 11)
    assert sum(counts.values()) <= 11


def test_fewer_images_than_the_split_needs():
    with pytest.raises(UserError, match=r"needs 1200 images \(train 1000, val 100, test 100\) but there are 1000"):
        split_by_counts(DISTINCT, {"train": 1000, "val": 100, "test": 100}, seed=0)


def test_the_tuning_sample_takes_whole_training_images(data_dir):
    index = check_set(EmbeddingFiles.of(data_dir, "train2017")).index
    train = np.arange(60) < 40
    sample = tuning_sample(index, train, 46, seed=0)
    assert sample.sum() == 15
    assert not sample[~train].any()


def test_a_row_in_two_splits_is_a_leak():
    first = SplitIndex(np.array([0, 5]), np.array([0, 1, 5]), np.array([0, 0, 1]))
    second = SplitIndex(np.array([10]), np.array([5, 10]), np.array([0, 0]))
    refuse_leaks({"train": first, "val": SplitIndex(np.array([20]), np.array([20]), np.array([0]))})
    with pytest.raises(UserError, match="1 text rows stand in both train and test"):
        refuse_leaks({"train": first, "test": second})


def test_a_split_names_rows_of_both_files(data_dir):
    index = check_set(EmbeddingFiles.of(data_dir, "train2017")).index
    chosen = np.isin(np.arange(60), [4, 7])
    found = select_images(index, chosen)
    assert found.image_rows.tolist() == [12, 21]
    assert found.text_rows.tolist() == [12, 13, 14, 21, 22, 23]
    assert found.text_image.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_script_writes_a_manifest_that_agrees_with_its_index_files(split_dir):
    manifest = read_json(split_dir / "manifest.json")
    assert manifest["leak_check"] == "passed"
    assert manifest["identical_image_groups"] == 1
    assert manifest["splits"]["train_tuning"] == {"images": 15, "pairs": 45}
    seen = set()
    for name in ("train", "val", "test"):
        index = SplitIndex.load(split_dir / f"{name}.npz")
        assert manifest["splits"][name] == {"images": len(index.image_rows), "pairs": len(index.text_rows)}
        seen |= set(index.text_rows.tolist())
    assert len(seen) == 180 - manifest["unused"]["pairs"]


def test_an_assignment_that_separates_identical_images_is_said_in_the_manifest(data_dir, tmp_path):
    names = {str(1000 + i): ("train", "val", "test")[i % 3] for i in range(60)}
    (tmp_path / "a.json").write_text(json.dumps(names))
    arguments = [
        "--dataset",
        "small",
        "--data-dir",
        data_dir,
        "--output-dir",
        tmp_path,
        "--assignments",
        tmp_path / "a.json",
    ]
    split([str(argument) for argument in arguments])
    assert "1 groups of identical images stand in two splits" in read_json(tmp_path / "manifest.json")["leak_check"]


def test_a_missing_split_says_which_step_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"test set not found: .*test.npz is missing; run `snakemake splits`"):
        SplitIndex.load(tmp_path / "test.npz")
