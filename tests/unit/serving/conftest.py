"""A small encoded set of generated scenes, and heads with random weights, saved as training saves them."""

import json
from pathlib import Path

import pytest
import torch

from frozenalign.models.dual_encoder import DualEncoder, PenalizedTower, TowerBesidePath, WhitenedTower
from frozenalign.models.model_file import save_heads
from tests.explored_run import write_run
from tests.generated import write_generated_set
from tests.small_training import SMALL

IMAGE_DIM, TEXT_DIM, WIDTH = 12, 9, 10


def random_model(head: str, image_dim: int = IMAGE_DIM, text_dim: int = TEXT_DIM, **model) -> DualEncoder:
    """Return a head no part of which is as it was made: statistics, gates, running means and offsets are random too."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    settings = {"type": head, "output_dim": WIDTH, "hub_temperature": 0.1, **SMALL[head], **model}
    built = DualEncoder(settings, image_dim, text_dim)
    for statistics in (built.image_statistics, built.text_statistics):
        statistics.mean.copy_(random(len(statistics.mean)))
        statistics.scale.copy_(random(len(statistics.scale)).abs() + 0.5)
    for module in built.modules():
        if isinstance(module, PenalizedTower):
            module.offset.fill_(0.3)
        if isinstance(module, TowerBesidePath):
            module.gate.data.copy_(random(*module.gate.shape))
        if isinstance(module, WhitenedTower):
            module.matrix.copy_(random(*module.matrix.shape))
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.copy_(random(*module.running_mean.shape))
            module.running_var.copy_(random(*module.running_var.shape).abs() + 0.5)
    return built.eval().requires_grad_(False)


def save_run(folder: Path, model: DualEncoder, images: str = "a", texts: str = "b") -> Path:
    """Save a model as best_model.pt with the facts of a training; images, texts: SHA-256 of its embeddings."""
    facts = {
        "dataset": "small",
        "experiment": "tried",
        "kind": "head",
        "seed": 0,
        "epoch": 3,
        "selected": {"split": "val", "RSUM": 250.0},
        "inputs": {"images": images, "texts": texts, "train": "c", "val": "d"},
        "warnings": [],
    }
    save_heads(folder / "best_model.pt", model, facts)
    return folder / "best_model.pt"


@pytest.fixture(scope="session")
def encoded(tmp_path_factory) -> Path:
    return write_generated_set(tmp_path_factory.mktemp("scenes"), images=40, captions=2)


@pytest.fixture(scope="session")
def run_of_encoded(encoded, tmp_path_factory) -> Path:
    """A model file whose facts say that it was trained on the encoded set."""
    files = json.loads((encoded / "encoding.json").read_text())["files"]
    hashes = [files[f"train2017_{modality}_embeddings.pt"] for modality in ("image", "text")]
    return save_run(tmp_path_factory.mktemp("run"), random_model("mlp", 256, 256), *hashes)


@pytest.fixture(scope="session")
def explored(encoded, tmp_path_factory) -> Path:
    """The results of a run on the encoded set, with two evaluated closed forms; tests leave it as they found it."""
    return write_run(encoded, tmp_path_factory.mktemp("results") / "small")
