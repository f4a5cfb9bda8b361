"""Memory of a device that really runs out: a training shrinks what it computes at once, and goes on."""

import math
from collections.abc import Iterator

import torch

from frozenalign.configuration.experiments import Experiment, experiment_from
from frozenalign.data.pairs import RAW, ResidentPairs
from frozenalign.system.memory import release_memory
from frozenalign.training.data import TrainingData
from frozenalign.training.fit import start
from frozenalign.training.steps import Fit, train_step
from tests.benchmarks.training_speed import HIDDEN_DIM, OUTPUT_DIM, random_pairs
from tests.device.findings import Finding
from tests.device.sizes import Sizes

# Of what a step takes beside weights and rows, the device is left so much.
SHARE_LEFT = 0.6
CASE = "a step with too little memory"


def shrinking(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Measure what a step takes, leave the process less, and take the step again."""
    if device.type != "cuda":
        yield Finding("out of memory", CASE, "not measured", note="only CUDA bounds a process")
        return
    settings = _settings(sizes.out_of_memory_batch)
    pairs = random_pairs(sizes.out_of_memory_batch).to(device)
    state = start(settings, _data(pairs), seed=0)
    release_memory()
    held = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    whole = _step(state, pairs, settings)
    peak = torch.cuda.max_memory_allocated(device)
    again = start(settings, _data(pairs), seed=0)
    release_memory()
    total = torch.cuda.get_device_properties(device).total_memory
    allowed = torch.cuda.memory_reserved(device) + SHARE_LEFT * (peak - held)
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
    try:
        in_parts = _step(again, pairs, settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    rows, tiles = (list(found.values()) for found in (again.part, again.loss.tiles.found))
    close = bool(rows or tiles) and math.isclose(in_parts, whole, rel_tol=1e-2)
    found = f"rows at once {rows}, tiles {tiles}, loss {in_parts:.4f}" if rows or tiles else "went on in one piece"
    yield Finding("out of memory", CASE, found, f"smaller parts, loss {whole:.4f}", close)


def _settings(batch_size: int) -> Experiment:
    document = {
        "model": {"type": "mlp", "hidden_dim": 4 * HIDDEN_DIM, "output_dim": OUTPUT_DIM, "dropout": 0.0},
        "loss": {"type": "siglip", "bias_init": "auto"},
        "training": {"batch_size": batch_size, "num_epochs": 10},
    }
    return experiment_from(document, "check")


def _data(pairs: ResidentPairs) -> TrainingData:
    return TrainingData(pairs, pairs, RAW, RAW)


def _step(state: Fit, pairs: ResidentPairs, settings: Experiment) -> float:
    """Take one step on all pairs, and return its loss."""
    state.model.train()
    before = state.loss_sum.clone()
    train_step(state, pairs.batch(torch.arange(len(pairs), device=pairs.device)), 1.0, settings.training)
    return float(state.loss_sum - before) / len(pairs)
