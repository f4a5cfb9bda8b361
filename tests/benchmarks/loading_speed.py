"""Loading a split into memory, standardised and in 16 bits, against reading the bytes of its files once."""

import tempfile
from pathlib import Path

import torch

from frozenalign.data.embeddings import EmbeddingFiles
from frozenalign.data.pairs import PairFiles
from frozenalign.system.devices import choose_device, choose_precision
from frozenalign.training.data import TrainingData, load_training_data
from tests.benchmarks.coco.input_files import write_input
from tests.benchmarks.measurement import Row, interleaved, timed_memory
from workflow.scripts import split

READ_BYTES = 8 << 20


def measure(quick: bool = False) -> list[Row]:
    """Time both with the files in the page cache, and measure what ours holds."""
    with tempfile.TemporaryDirectory() as folder:
        data, index = Path(folder) / "data", Path(folder) / "split"
        write_input(data, 200 if quick else 12_000)
        fractions = '{"train": 0.98, "val": 0.01, "test": 0.01}'
        folders = ["--data-dir", str(data), "--output-dir", str(index)]
        split.main(["--dataset", "random", *folders, "--fractions", fractions])
        files = EmbeddingFiles.of(data, "train2017")
        medians = interleaved(
            1 if quick else 5, ours=lambda: _load(files, index), limit=lambda: _read(files.images, files.texts)
        )
        _, extra = timed_memory(lambda: _load(files, index))
        pairs = _load(files, index).train
    held = sum(rows.numel() * rows.element_size() for rows in (pairs.images, pairs.texts))
    case = f"{len(pairs):,} pairs, {pairs.images.shape[1]} and {pairs.texts.shape[1]} wide"
    note = f"the training rows take {held / 1e6:.0f} MB in 16 bits"
    return [Row(case, medians["ours"], limit=medians["limit"], extra_bytes=extra, note=note)]


def _load(files: EmbeddingFiles, index: Path) -> TrainingData:
    train, val = (PairFiles.open(files.images, files.texts, index / f"{name}.npz") for name in ("train", "val"))
    return load_training_data(train, val, choose_precision("auto", choose_device("auto")))


def _read(*paths: Path) -> None:
    buffer = memoryview(torch.empty(READ_BYTES, dtype=torch.uint8).numpy())
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
