"""Trainings of a few steps: every head in a small size, settings with everything on, and data for them."""

import torch
from torch import Tensor

from frozenalign.configuration.experiments import Experiment, experiment_from
from frozenalign.data.pairs import RAW, ResidentPairs
from frozenalign.training.data import TrainingData

TOKENS = {"hidden_dim": 16, "num_tokens": 2, "num_heads": 2, "num_layers": 1}
SMALL = {
    "linear": {},
    "mlp": {"hidden_dim": 16, "dropout": 0.5},
    "attention": TOKENS,
    "cross_modal": TOKENS,
    "siglip": {"dropout": 0.2},
    "clip": {"hidden_dim": 16},
    "align": {"hidden_dim": 16},
    "blip": {"hidden_dim": 16, "momentum": 0.9},
}
# Heads and losses that keep something of their own from step to step.
STATEFUL = [
    ("mlp", {"type": "clip"}),
    ("align", {"type": "align"}),
    ("cross_modal", {"type": "siglip"}),
    ("mlp", {"type": "queue", "queue_size": 50, "momentum": 0.9}),
    ("blip", {"type": "blip", "queue_size": 70}),
]
REGULARISED = {"weight_average": "ema", "mixup": 0.5, "noise": 0.2, "input_dropout": 0.1, "structure": 0.1}
NAMED = [f"{head} with the loss {loss['type']}" for head, loss in STATEFUL]


def experiment(
    head: str = "mlp", loss: dict | None = None, output_dim: int = 4, model: dict | None = None, **training
) -> Experiment:
    document = {
        "model": {"type": head, "output_dim": output_dim, **SMALL[head], **(model or {})},
        "loss": loss or {"type": "clip"},
        "training": {"batch_size": 32, "num_epochs": 4, "patience": 4, "learning_rate": 0.01, **training},
    }
    return experiment_from(document, "test")


def study_text(trials: int) -> str:
    """Return the file of a study whose trials take a few steps, are drawn at random and never pruned."""
    return f"""
trials: {trials}
sampler: {{type: random, seed: 0}}
pruner: {{type: none}}
base:
  model: {{type: linear, output_dim: 8}}
  loss: {{type: infonce}}
  training: {{num_epochs: 3, batch_size: 8, patience: 3, warmup_steps: 0}}
search_space:
  - {{key: training.learning_rate, type: float, low: 1e-4, high: 1e-2, log: true}}
"""


def rotated_pairs(images: int, captions: int = 1) -> ResidentPairs:
    """Texts are the image, rotated: nothing to learn for a head that starts from the closed form."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(images, 6, generator=generator)
    owner = torch.arange(images).repeat_interleave(captions)
    return ResidentPairs(rows, rows[owner] @ torch.linalg.qr(torch.randn(6, 6, generator=generator))[0], owner)


def raw(pairs: ResidentPairs) -> TrainingData:
    return TrainingData(pairs, pairs, RAW, RAW)


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert list(first) == list(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
