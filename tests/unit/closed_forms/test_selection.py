"""Choosing sees no test row: others change neither epochs, weights, regularisers, hubness correction nor best trial."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from frozenalign.data.given_files import PAIRS
from frozenalign.data.splits import SplitIndex
from frozenalign.system.files import file_hash
from workflow.scripts.baselines import main as baselines
from workflow.scripts.evaluate import main as evaluate
from workflow.scripts.train import main as train
from workflow.scripts.tune import main as tune

EXPERIMENT = {
    "description": "small",
    "model": {"type": "mlp", "output_dim": 8, "hidden_dim": 16, "skip": "cca"},
    "loss": {"type": "infonce"},
    "training": {"num_epochs": 4, "batch_size": 16, "learning_rate": 0.01},
}
STUDY = {
    "trials": 3,
    "base": {part: EXPERIMENT[part] for part in ("model", "loss", "training")},
    "search_space": [{"key": "training.learning_rate", "type": "float", "low": 1e-4, "high": 1e-1, "log": True}],
}


@pytest.fixture
def other_test_rows(data_dir, split_dir, tmp_path) -> Path:
    """The same data set with other embeddings in every row of the test split."""
    folder = tmp_path / "other"
    shutil.copytree(data_dir, folder)
    split = SplitIndex.load(split_dir / "test.npz")
    for modality in ("image", "text"):
        path = folder / f"train2017_{modality}_embeddings.pt"
        rows = torch.load(path, weights_only=True)
        rows[split.text_rows] = 100 * torch.randn(len(split.text_rows), rows.shape[1])
        torch.save(rows, path)
    return folder


@pytest.fixture
def run_on(split_dir, tmp_path):
    """Run a script on a data folder, divided as the data set is, and return its output folder."""

    def run(script, data: Path, *arguments: str | Path) -> Path:
        output = tmp_path / f"{script.__module__}-{data.name}"
        folders = ["--data-dir", data, "--split-dir", same_division(data), "--output-dir", output]
        script([str(argument) for argument in [*arguments, *folders]])
        return output

    def same_division(data: Path) -> Path:
        """Return the split with a manifest that is of the files in this folder."""
        folder = Path(shutil.copytree(split_dir, tmp_path / f"split-{data.name}", dirs_exist_ok=True))
        manifest = json.loads((split_dir / "manifest.json").read_text())
        manifest["hashes"] |= {name: file_hash(data / name) for name in manifest["hashes"] if name != PAIRS}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return run


def equal_models(first: Path, second: Path) -> bool:
    states = [torch.load(folder / "best_model.pt", weights_only=True)["state"] for folder in (first, second)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_chooses_the_same_epoch_and_weights(data_dir, other_test_rows, run_on, tmp_path):
    (tmp_path / "small.yaml").write_text(json.dumps(EXPERIMENT))
    runs = [
        run_on(train, data, "--experiment", tmp_path / "small.yaml", "--device", "cpu")
        for data in (data_dir, other_test_rows)
    ]
    first, second = (json.loads((run / "loss_history.json").read_text()) for run in runs)
    assert first["best_epoch"] == second["best_epoch"]
    assert [record["val"] for record in first["epochs"]] == [record["val"] for record in second["epochs"]]
    assert equal_models(*runs)


def test_another_seed_gives_other_weights(data_dir, run_on, tmp_path):
    (tmp_path / "small.yaml").write_text(json.dumps(EXPERIMENT))
    copy = shutil.copytree(data_dir, tmp_path / "copy")
    runs = [
        run_on(train, data, "--experiment", tmp_path / "small.yaml", "--device", "cpu", "--seed", seed)
        for data, seed in ((data_dir, "0"), (copy, "1"))
    ]
    assert not equal_models(*runs)


@pytest.mark.parametrize("name", ["ridge", "procrustes", "cca"])
def test_a_baseline_chooses_the_same_maps(name, data_dir, other_test_rows, run_on):
    runs = [run_on(baselines, data, "--baselines", name) / name / "seed0" for data in (data_dir, other_test_rows)]
    assert equal_models(*runs)


def test_an_evaluation_chooses_the_same_hubness_correction(data_dir, other_test_rows, run_on):
    model = run_on(baselines, data_dir, "--baselines", "ridge") / "ridge" / "seed0" / "best_model.pt"
    runs = [run_on(evaluate, data, "--model", model, "--device", "cpu") for data in (data_dir, other_test_rows)]
    first, second = (json.loads((run / "metrics.json").read_text()) for run in runs)
    assert first["full"] != second["full"]
    assert first["hubness_corrected"]["correction"] == second["hubness_corrected"]["correction"]


def test_a_study_has_the_same_trials_and_the_same_best(data_dir, other_test_rows, run_on, tmp_path):
    (tmp_path / "small.yaml").write_text(json.dumps(STUDY))
    runs = [
        run_on(tune, data, "--study", tmp_path / "small.yaml", "--device", "cpu")
        for data in (data_dir, other_test_rows)
    ]
    first, second = (pd.read_csv(run / "trials.csv").drop(columns="seconds") for run in runs)
    pd.testing.assert_frame_equal(first, second)
    assert (runs[0] / "best_config.yaml").read_text() == (runs[1] / "best_config.yaml").read_text()
