"""A small data set in the input layout, and the split that goes with it."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy
import torch
from threadpoolctl import threadpool_limits

from frozenalign.data.pairs import PairFiles
from frozenalign.training.data import TrainingData, load_training_data
from frozenalign.tuning import liveness
from workflow.scripts.split import main as split

IMAGES, CAPTIONS = 60, 3


def write_set(
    folder: Path, images: torch.Tensor, texts: torch.Tensor, metadata: dict, prefix: str = "train2017"
) -> None:
    """Write a set in the input layout."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(images, folder / f"{prefix}_image_embeddings.pt")
    torch.save(texts, folder / f"{prefix}_text_embeddings.pt")
    (folder / f"{prefix}_metadata.json").write_text(json.dumps(metadata))


def related_embeddings(images: int, captions: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Return images (N, 12) repeated over captions, texts (N, 9) that are related to them, and image ids."""
    generator = torch.Generator().manual_seed(seed)
    facts = torch.randn(images, 6, generator=generator)
    x = facts @ torch.randn(6, 12, generator=generator) + 0.1 * torch.randn(images, 12, generator=generator)
    ids = [1000 + i for i in range(images) for _ in range(captions)]
    y = facts.repeat_interleave(captions, 0) @ torch.randn(6, 9, generator=generator)
    y = y + 0.3 * torch.randn(y.shape, generator=generator)
    return x.repeat_interleave(captions, 0), y, ids


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and threads that wait for each other on a busy machine lose seconds."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """60 images with 3 captions each; the first image's content stands a second time under another id."""
    folder = tmp_path_factory.mktemp("data")
    images, texts, ids = related_embeddings(IMAGES, CAPTIONS)
    images[3:6] = images[0]
    captions = [f"caption {i}" for i in range(len(ids))]
    files = {str(image_id): f"images/{image_id}.png" for image_id in set(ids)}
    write_set(folder, images, texts, {"image_ids": ids, "captions": captions, "image_files": files})
    return folder


@pytest.fixture(scope="session")
def split_dir(data_dir, tmp_path_factory) -> Path:
    """The data set divided 40 : 10 : 10."""
    folder = tmp_path_factory.mktemp("split")
    counts = json.dumps({"train": 40, "val": 10, "test": 10})
    arguments = ["--dataset", "small", "--data-dir", data_dir, "--output-dir", folder, "--counts", counts]
    split([str(argument) for argument in [*arguments, "--tuning-pairs", 45]])
    return folder


@pytest.fixture(scope="session")
def files(data_dir, split_dir) -> dict[str, PairFiles]:
    """The files of the data set with the index of each split that training reads."""
    names = [data_dir / f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    return {split: PairFiles.open(*names, split_dir / f"{split}.npz") for split in ("train", "val")}


@pytest.fixture(scope="session")
def data(files) -> TrainingData:
    """The data set as training holds it; tests leave it as they found it."""
    return load_training_data(files["train"], files["val"], torch.float32)


@pytest.fixture
def hurried_databases() -> Iterator[None]:
    """Keep SQLite from waiting for the disk, and Optuna from asking whether its own tables are of its own version."""

    def hurry(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", hurry)
    with pytest.MonkeyPatch.context() as patch:
        storage = optuna.storages.RDBStorage
        patch.setattr(storage, "__init__", functools.partialmethod(storage.__init__, skip_compatibility_check=True))
        yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", hurry)


@pytest.fixture
def hurried_watch(monkeypatch) -> None:
    """Take a trial for dead after a fraction of a second."""
    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(liveness, "LOOKS", 3)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
