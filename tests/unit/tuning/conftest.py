"""A small study, its data, and a training that only returns values."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from frozenalign.configuration.experiments import Experiment
from frozenalign.configuration.studies import load_study
from frozenalign.data.pairs import PairFiles
from frozenalign.training.data import TrainingData, load_training_data
from frozenalign.tuning import study as tuning
from frozenalign.tuning.opening import StudyRun
from tests.unit.tuning.pretended import STUDY, Training


@pytest.fixture
def study_file(tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def run(study_file, tmp_path) -> StudyRun:
    return StudyRun("small", load_study(study_file), tmp_path / "tuning", "hash of the inputs", pairs=20_000)


@pytest.fixture
def data(data_dir, split_dir) -> TrainingData:
    names = [data_dir / f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    train, val = (PairFiles.open(*names, split_dir / f"{name}.npz") for name in ("train_tuning", "val"))
    return load_training_data(train, val, torch.float32)


@pytest.fixture
def trained(monkeypatch) -> Callable[[Training], list[Experiment]]:
    """Replace training by a function that returns the RSUM of each epoch, or raises; it starts from RSUM 50."""

    def replace_fit(training: Training) -> list[Experiment]:
        asked = []

        def pretend(experiment: Experiment, data: Any, seed: int, canonical: Any, on_epoch: Callable[[dict], None]):
            asked.append(experiment)
            epochs = training(experiment)
            for epoch, rsum in enumerate(itertools.chain([50.0], epochs)):
                metrics = {"RSUM": rsum, "i2t": {"R@1": -rsum}, "t2i": {"R@1": 100.0 - rsum}}
                on_epoch({"epoch": epoch, "loss": 1e6 * epoch, "val": metrics})

        monkeypatch.setattr(tuning, "fit", pretend)
        return asked

    return replace_fit
