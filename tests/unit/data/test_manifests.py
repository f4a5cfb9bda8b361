"""A split belongs to the files that it was made from, and a model to the split that it was trained on."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.data.inputs import Manifest
from frozenalign.data.manifests import open_split
from frozenalign.data.splits import SplitIndex
from frozenalign.reporting.leaderboard import read_run
from frozenalign.system import fingerprints as content
from frozenalign.system.errors import UserError
from tests.conftest import related_embeddings, write_set
from workflow.scripts import baselines, ensemble, evaluate, train, tune
from workflow.scripts.split import main as split

EXPERIMENT = """
model: {type: linear, output_dim: 8}
loss: {type: infonce}
training: {batch_size: 16, num_epochs: 1, warmup_steps: 0}
"""
STUDY = """
trials: 1
base:
  model: {type: linear, output_dim: 8}
  loss: {type: infonce}
  training: {batch_size: 16, num_epochs: 1, warmup_steps: 0}
search_space: [{key: training.learning_rate, type: float, low: 1e-4, high: 1e-2, log: true}]
"""


@pytest.fixture
def divided(tmp_path) -> Path:
    """A folder with a data set in `data` and its split in `split`."""
    images, texts, ids = related_embeddings(60, 3)
    write_set(tmp_path / "data", images, texts, {"image_ids": ids})
    divide(tmp_path, "split", seed=1)
    return tmp_path


def divide(folder: Path, name: str, seed: int) -> None:
    counts = json.dumps({"train": 30, "val": 15, "test": 15})
    how = ["--dataset", "small", "--data-dir", str(folder / "data"), "--output-dir", str(folder / name)]
    split([*how, "--counts", counts, "--seed", str(seed)])


def encode_again(folder: Path, modality: str = "text") -> None:
    """Replace the embeddings of a modality by others of the same shape."""
    path = folder / "data" / f"train2017_{modality}_embeddings.pt"
    rows = torch.load(path)
    others = torch.randn(60, rows.shape[1]).repeat_interleave(3, 0)
    torch.save(others if modality == "image" else torch.randn_like(rows), path)


def run(script, folder: Path, output: str, *arguments: str, of: str = "split") -> Path:
    inputs = ["--data-dir", str(folder / "data"), "--split-dir", str(folder / of)]
    script.main([*inputs, "--output-dir", str(folder / output), *arguments])
    return folder / output


def trained(folder: Path, output: str = "ridge", of: str = "split") -> str:
    return str(run(baselines, folder, output, "--baselines", "ridge", of=of) / "ridge" / "seed0" / "best_model.pt")


@pytest.mark.parametrize("modality", ["image", "text"])
def test_files_that_a_split_was_not_made_from_are_refused_by_every_step(divided, modality):
    (divided / "small.yaml").write_text(EXPERIMENT)
    (divided / "study.yaml").write_text(STUDY)
    model = trained(divided)
    encode_again(divided, modality)
    steps = {
        baselines: ["--baselines", "ridge"],
        train: ["--experiment", str(divided / "small.yaml")],
        tune: ["--study", str(divided / "study.yaml")],
        evaluate: ["--model", model],
        ensemble: ["--name", "both", "--models", model],
    }
    for script, arguments in steps.items():
        with pytest.raises(UserError, match=rf"{modality}_embeddings.pt is not the file that the split in .* was made"):
            run(script, divided, script.__name__.rpartition(".")[2], *arguments)


def test_an_index_of_another_split_is_refused(divided):
    divide(divided, "other", seed=2)
    shutil.copy(divided / "other" / "train.npz", divided / "split")
    with pytest.raises(UserError, match=r"split/train.npz is not of the split that .*manifest.json describes"):
        open_split(divided / "data", divided / "split", ["train"])


def test_other_image_ids_than_those_of_the_split_are_refused_where_they_are_read(divided):
    model = trained(divided)
    path = divided / "data" / "train2017_metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps(metadata | {"captions": [f"caption {i}" for i in range(180)]}))
    run(evaluate, divided, "with_captions", "--model", model)
    path.write_text(json.dumps({"image_ids": metadata["image_ids"][3:] + metadata["image_ids"][:3]}))
    with pytest.raises(UserError, match=r"metadata.json has other image ids than the split"):
        run(evaluate, divided, "evaluated", "--model", model)


def test_a_large_file_is_not_read_again_until_it_changes(divided, monkeypatch):
    monkeypatch.setattr(content, "LARGE_BYTES", 0)
    divide(divided, "split", seed=1)
    content._hash_now.cache_clear()
    read = []
    monkeypatch.setattr(content, "file_hash", lambda path: read.append(path.name) or "another")
    open_split(divided / "data", divided / "split", ["train"])
    assert read == []
    path = divided / "data" / "train2017_text_embeddings.pt"
    os.utime(path, (1, 1))
    with pytest.raises(UserError, match="is not the file"):
        open_split(divided / "data", divided / "split", ["train"])
    assert read == [path.name]


def test_a_model_that_may_have_seen_the_test_images_is_refused(divided):
    model = trained(divided)
    divide(divided, "other", seed=2)
    for script, arguments in ((evaluate, ["--model", model]), (ensemble, ["--name", "both", "--models", model])):
        with pytest.raises(UserError, match=r"best_model.pt was trained on another split of these images"):
            run(script, divided, "evaluated", *arguments, of="other")


def test_a_model_may_be_tested_on_a_split_that_differs_in_its_test_images_alone(divided):
    model = trained(divided)
    shutil.copytree(divided / "split", divided / "other")
    rows = SplitIndex.load(divided / "split" / "test.npz")
    fewer = rows.of_images(np.arange(10))
    fewer.save(divided / "other" / "test.npz")
    path = divided / "other" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["rows"]["test"] = fewer.digest()
    path.write_text(json.dumps(manifest))
    found = json.loads((run(evaluate, divided, "e", "--model", model, of="other") / "metrics.json").read_text())
    assert found["protocol"]["images"] == 10


def test_a_model_of_another_data_set_is_tested_with_a_warning(divided):
    model = trained(divided)
    encode_again(divided, "image")
    encode_again(divided, "text")
    divide(divided, "other", seed=2)
    found = json.loads((run(evaluate, divided, "e", "--model", model, of="other") / "metrics.json").read_text())
    assert "ridge was trained on another data set" in found["warnings"][-1]


def test_a_head_of_the_tuning_sample_says_so(divided):
    (divided / "small.yaml").write_text(EXPERIMENT)
    head = run(train, divided, "head", "--experiment", str(divided / "small.yaml"), "--train-split", "train_tuning")
    metrics = run(evaluate, divided, "e", "--model", str(head / "best_model.pt")) / "metrics.json"
    assert "trained on train_tuning, 90 pairs, not on all training pairs" in json.loads(metrics.read_text())["warnings"]


def test_an_evaluation_older_than_its_model_is_refused_by_the_report(divided):
    (divided / "small.yaml").write_text(EXPERIMENT)
    arguments = ["--experiment", str(divided / "small.yaml")]
    head = run(train, divided, "head", *arguments)
    run(evaluate, divided, "head/evaluation_results", "--model", str(head / "best_model.pt"))
    read_run(head)
    run(train, divided, "head", *arguments, "--seed", "1")
    with pytest.raises(UserError, match=r"head: metrics.json was not made from the model that run.json describes"):
        read_run(head)


def test_validation_numbers_say_that_models_were_chosen_by_them(divided):
    folder = run(evaluate, divided, "e", "--model", trained(divided), "--split", "val")
    assert "the validation split is tested" in json.loads((folder / "metrics.json").read_text())["warnings"][-1]


def test_a_moved_folder_is_the_same_data_set(divided):
    before = Manifest.read(divided / "split").inputs()
    (divided / "data").rename(divided / "moved")
    (divided / "data").symlink_to("moved")
    divide(divided, "again", seed=1)
    assert Manifest.read(divided / "again").inputs() == before
