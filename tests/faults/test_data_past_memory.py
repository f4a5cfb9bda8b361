"""Each step with memory for less than a third of the data beyond the program's own: same results, or as good."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import write_set

ROOT = Path(__file__).parents[2]
IMAGES, CAPTIONS, IMAGE_DIM, TEXT_DIM = 40_000, 5, 512, 1024
# Closed forms take matrices of all dimensions, and evaluations scores against a sample, however few rows there are.
FIXED = 360 << 20
BYTES = 4 * IMAGES * (IMAGE_DIM + CAPTIONS * TEXT_DIM)
EXPERIMENT = """
model: {type: linear, output_dim: 64}
loss: {type: infonce}
training: {batch_size: 256, num_epochs: 1}
"""
STUDY = """
trials: 1
sampler: {type: random, seed: 0}
pruner: {type: none}
base:
  model: {type: linear, output_dim: 64}
  loss: {type: infonce}
  training: {batch_size: 256, num_epochs: 1}
search_space:
  - {key: training.learning_rate, type: float, low: 1e-4, high: 1e-2, log: true}
"""
# What is limited is the process's own memory, which libraries and mapped files do not count against.
PROGRAM = """
import importlib, resource, sys
from pathlib import Path
from frozenalign.system.errors import run
script = importlib.import_module("workflow.scripts." + sys.argv[1])
# A worker imports it once it knows that there is a trial to run.
importlib.import_module("frozenalign.training.fit")
if room := int(sys.argv.pop(2)):
    status = Path("/proc/self/status").read_text()
    own = 1024 * int(status.split("VmData:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_DATA, (own + room, -1))
sys.argv.pop(1)
run(script.main)
"""

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="own memory is limited this way on Linux alone"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Nine tenths of a gigabyte of related images and texts, an experiment and a study."""
    folder, generator = tmp_path_factory.mktemp("past"), torch.Generator().manual_seed(0)
    facts = torch.randn(IMAGES, 32, generator=generator)
    images = facts @ torch.randn(32, IMAGE_DIM, generator=generator)
    images += torch.randn(images.shape, generator=generator)
    texts = facts.repeat_interleave(CAPTIONS, 0) @ torch.randn(32, TEXT_DIM, generator=generator)
    texts += 8 * torch.randn(texts.shape, generator=generator)
    ids = list(range(IMAGES))
    metadata = {"image_ids": [i for i in ids for _ in range(CAPTIONS)], "unique_image_ids": ids}
    write_set(folder / "data", images, texts, metadata)
    (folder / "linear.yaml").write_text(EXPERIMENT)
    (folder / "study.yaml").write_text(STUDY)
    return folder


def run_step(step: str, room: int, *arguments: object) -> str:
    """Run a script with so much memory beyond what it takes to import it, zero for any; return what it logs."""
    command = [sys.executable, "-c", PROGRAM, step, str(room), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def rsum(folder: Path) -> float:
    return json.loads((folder / "metrics.json").read_text())["full"]["RSUM"]


def test_every_step_does_with_a_part_of_the_data_in_memory(folder):
    log = {}
    for name, room in (("all", 0), ("quarter", BYTES // 4)):
        out, data = folder / name, ("--data-dir", folder / "data")
        counts = json.dumps({"train": IMAGES - 1000, "val": 500, "test": 500})
        run_step("split", room, "--dataset", "past", *data, "--output-dir", out / "split", "--counts", counts)
        inputs = (*data, "--split-dir", out / "split")
        cpu = ("--device", "cpu", "--precision", "fp32")
        run_step("baselines", room and FIXED, "--baselines", "ridge", "cca", *inputs, "--output-dir", out)
        head = out / "linear"
        log[name] = run_step("train", room, "--experiment", folder / "linear.yaml", *inputs, *cpu, "--output-dir", head)
        study = ("--study", folder / "study.yaml", *inputs, *cpu, "--output-dir", out / "study")
        log[name] += run_step("tune", room, *study)
        model, to = head / "best_model.pt", ("--device", "cpu", "--output-dir")
        run_step("evaluate", room and FIXED, "--model", model, *inputs, *to, head / "evaluation_results")
        run_step("ensemble", room and FIXED, "--name", "one", "--models", model, *inputs, *to, out / "one")
        run_step("figures", room, "--evaluations", head / "evaluation_results")
    whole, part = folder / "all", folder / "quarter"
    for split in ("train", "train_tuning", "val", "test"):
        with np.load(whole / f"split/{split}.npz") as one, np.load(part / f"split/{split}.npz") as other:
            assert all(np.array_equal(one[key], other[key]) for key in one)
    for name in ("ridge", "cca"):
        first, second = (
            torch.load(run / name / "seed0/best_model.pt", weights_only=True)["state"] for run in (whole, part)
        )
        for key, value in first.items():
            torch.testing.assert_close(second[key], value)
    assert "read from their files" not in log["all"]
    assert log["quarter"].count("read from their files") == 2
    for name in ("linear/evaluation_results", "one/evaluation_results"):
        assert rsum(part / name) == pytest.approx(rsum(whole / name), rel=0.03)
