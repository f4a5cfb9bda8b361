"""A study on a device: its workers get the data through the CPU and take the device together."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from frozenalign.configuration.studies import load_study
from frozenalign.data.pairs import RAW, ResidentPairs
from frozenalign.system.devices import choose_precision
from frozenalign.system.files import write_yaml
from frozenalign.training.data import TrainingData, held_format
from frozenalign.tuning.opening import StudyRun, open_study
from frozenalign.tuning.study import run_study
from frozenalign.tuning.trial_budget import counted_trials
from frozenalign.tuning.worker_pool import prepare_workers
from tests.benchmarks.measurement import seconds_of
from tests.benchmarks.training_speed import IMAGE_DIM, TEXT_DIM
from tests.device.findings import Finding, at_most
from tests.device.sizes import Sizes

SECONDS = 180
# So much noise that no head finds all matches.
FACTS, NOISE, CAPTIONS = 128, 6.0, 5


def study(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Run a study of the two-layer perceptron on pairs that share facts."""
    if sizes.jobs > 1:
        prepare_workers("frozenalign.tuning.study")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        write_yaml(path, _document(sizes))
        run = StudyRun("device", load_study(path), Path(folder) / "study", "random numbers", sizes.study_pairs)
        data = _data(sizes, choose_precision("auto", device))
        data = data if sizes.jobs > 1 else data.to(device)
        seconds = seconds_of(lambda: run_study(run, data, device=str(device)))
        found = open_study(run, worker=0)
        trials, best = counted_trials(found), found.best_value
    pruned = sum(trial.state.name == "PRUNED" for trial in trials)
    case = f"{len(trials)} trials on {sizes.study_pairs:,} pairs"
    note = f"{pruned} pruned, {sizes.jobs} at a time, best RSUM {best:.1f}"
    if sizes.small:
        yield Finding("study", case, f"{seconds:.3g} s", note=note)
    else:
        yield at_most("study", case, seconds, SECONDS, " s", note)


def _document(sizes: Sizes) -> dict[str, object]:
    batches = [sizes.study_batch // 4, sizes.study_batch // 2, sizes.study_batch]
    return {
        "trials": sizes.trials,
        "n_jobs": sizes.jobs,
        "base": {
            "model": {"type": "mlp", "output_dim": 32 if sizes.small else 512},
            "loss": {"type": "infonce"},
            "training": {"num_epochs": 1 if sizes.small else 5, "patience": 2},
        },
        "search_space": [
            {"key": "model.hidden_dim", "type": "categorical", "choices": [32] if sizes.small else [512, 1024, 2048]},
            {"key": "model.dropout", "type": "float", "low": 0.0, "high": 0.6, "step": 0.1},
            {"key": "loss.temperature", "type": "float", "low": 0.02, "high": 0.2, "log": True},
            {"key": "training.batch_size", "type": "categorical", "choices": batches},
            {"key": "training.learning_rate", "type": "float", "low": 1e-4, "high": 5e-3, "log": True},
        ],
    }


def _data(sizes: Sizes, compute: torch.dtype) -> TrainingData:
    """Return pairs whose images and texts are two noisy maps of the same facts, as wide as SigLIP and E5-Mistral."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(FACTS, width, generator=generator) / FACTS**0.5 for width in (IMAGE_DIM, TEXT_DIM)]
    train, val = (
        _pairs(images, maps, compute, generator) for images in (sizes.study_pairs // CAPTIONS, sizes.images // 5)
    )
    return TrainingData(train, val, RAW, RAW)


def _pairs(images: int, maps: list[torch.Tensor], compute: torch.dtype, generator: torch.Generator) -> ResidentPairs:
    owner = torch.arange(images).repeat_interleave(CAPTIONS)
    facts = torch.randn(images, FACTS, generator=generator)
    held = held_format(compute)
    pictures, captions = (
        (rows @ matrix + NOISE * torch.randn(len(rows), matrix.shape[1], generator=generator)).to(held)
        for rows, matrix in zip((facts, facts[owner]), maps, strict=True)
    )
    return ResidentPairs(pictures, captions, owner, compute)
