"""Split and train on random numbers of COCO's size, and print the peak memory of each step.

python -m tests.benchmarks.coco_size FOLDER [--images 118287] [--epochs 1]

Writes 11.5 GB into FOLDER on first use: 591,753 pairs over 118,287 images, 768 and 4,096 wide, float32.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from frozenalign.data.rows import open_rows

IMAGES, PAIRS, IMAGE_DIM, TEXT_DIM = 118_287, 591_753, 768, 4096
ROWS_AT_ONCE = 4096
EXPERIMENT = """
model: {{type: mlp, output_dim: 512}}
loss: {{type: siglip, bias_init: auto}}
training: {{batch_size: 4096, num_epochs: {epochs}}}
"""


def write_input(folder: Path, images: int) -> None:
    """Write random embeddings and metadata in the input layout, holding a few thousand rows at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    pairs = round(images * PAIRS / IMAGES)
    extra = generator.choice(images, pairs - 5 * images, replace=False) if pairs > 5 * images else []
    owner = np.sort(np.concatenate([np.repeat(np.arange(images), 5), extra]).astype(np.int64))
    pictures = generator.standard_normal((images, IMAGE_DIM), dtype=np.float32)
    write_tensor(folder / "train2017_image_embeddings.pt", (len(owner), IMAGE_DIM), lambda rows: pictures[owner[rows]])
    write_tensor(
        folder / "train2017_text_embeddings.pt",
        (len(owner), TEXT_DIM),
        lambda rows: generator.standard_normal((rows.stop - rows.start, TEXT_DIM), dtype=np.float32),
    )
    metadata = json.dumps({"image_ids": owner.tolist()})
    (folder / "train2017_metadata.json").write_text(metadata, encoding="utf-8")


def write_tensor(path: Path, shape: tuple[int, int], rows_of: Callable[[slice], np.ndarray]) -> None:
    """Save a float32 tensor of a shape whose rows are made piece by piece: saved empty, then filled in place."""
    # The checksum of the empty tensor would not be that of the rows.
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(torch.empty(shape), path)
    finally:
        torch.serialization.set_crc32_options(True)
    with path.open("r+b") as stream:
        stream.seek(open_rows(path).offset)
        for start in range(0, shape[0], ROWS_AT_ONCE):
            rows_of(slice(start, min(start + ROWS_AT_ONCE, shape[0]))).tofile(stream)


def measure(name: str, *command: str) -> None:
    """Run a script of the workflow and print its wall time and peak resident memory."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", f"workflow.scripts.{name}", *command])
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"{name} failed")
    print(f"{name}: {seconds:.0f} s, peak resident memory {usage.ru_maxrss / 1e6:.2f} GB", flush=True)


def main() -> None:
    """Write the input where it is missing, then split and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the input and the results")
    parser.add_argument("--images", type=int, default=IMAGES, help="fewer, for a trial of this script (118287)")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the training (1)")
    arguments = parser.parse_args()
    data, split, run = (arguments.folder / name for name in ("data", "split", "run"))
    if not (data / "train2017_metadata.json").exists():
        write_input(data, arguments.images)
    experiment = arguments.folder / "mlp.yaml"
    experiment.write_text(EXPERIMENT.format(epochs=arguments.epochs), encoding="utf-8")
    fractions = json.dumps({"train": 0.8, "val": 0.01, "test": 0.04})
    folders = ["--data-dir", str(data)]
    measure("split", "--dataset", "random", *folders, "--output-dir", str(split), "--fractions", fractions)
    where = ["--split-dir", str(split), "--output-dir", str(run)]
    measure("train", "--experiment", str(experiment), *folders, *where, "--device", "cpu")


if __name__ == "__main__":
    main()
