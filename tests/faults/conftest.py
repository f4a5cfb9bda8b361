"""Every script on a tiny data set, and a disk that is small enough to be filled."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from workflow.scripts import baselines, ensemble, evaluate, evaluate_part, report, split, train, tune

EXPERIMENT = """
model: {type: mlp, output_dim: 8, hidden_dim: 16}
loss: {type: infonce}
training: {batch_size: 16, num_epochs: 1, warmup_steps: 0}
"""
STUDY = """
trials: 2
pruner: {type: none}
base:
  model: {type: linear, output_dim: 8}
  loss: {type: infonce}
  training: {batch_size: 16, num_epochs: 1, warmup_steps: 0}
search_space:
  - {key: training.learning_rate, type: float, low: 1e-4, high: 1e-2, log: true}
"""


@dataclass(frozen=True)
class Step:
    """A script with its arguments, but for the folder that it writes."""

    main: Callable[[list[str]], None]
    arguments: tuple[str, ...]

    def run(self, output: Path) -> None:
        """Run the script in this process."""
        self.main([*self.arguments, "--output-dir", str(output)])


@dataclass(frozen=True)
class Chain:
    """All steps of a run, and the folder in which each has left its results under its own name."""

    steps: dict[str, Step]
    results: Path


@pytest.fixture(scope="session")
def chain(data_dir, tmp_path_factory) -> Chain:
    """The whole chain, finished once; steps read what earlier steps left here."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "small.yaml").write_text(EXPERIMENT)
    (folder / "study.yaml").write_text(STUDY)
    data = ("--data-dir", str(data_dir))
    inputs = (*data, "--split-dir", str(folder / "split"))
    counts = json.dumps({"train": 40, "val": 10, "test": 10})
    run = folder / "train"
    model = str(run / "best_model.pt")
    steps = {
        "split": Step(split.main, ("--dataset", "small", *data, "--counts", counts, "--tuning-pairs", "45")),
        "train": Step(train.main, ("--experiment", str(folder / "small.yaml"), *inputs, "--device", "cpu")),
        "baselines": Step(baselines.main, ("--baselines", "ridge", *inputs)),
        "evaluate": Step(evaluate.main, ("--model", model, *inputs, "--device", "cpu")),
        "evaluate_part": Step(
            evaluate_part.main, ("--model", model, *inputs, "--part", "1", "--of", "2", "--device", "cpu")
        ),
        "ensemble": Step(ensemble.main, ("--name", "both", "--models", model, *inputs, "--device", "cpu")),
        "tune": Step(tune.main, ("--study", str(folder / "study.yaml"), *inputs, "--device", "cpu")),
        "report": Step(
            report.main,
            ("--dataset-name", "small", *data, "--manifest", str(folder / "split/manifest.json"), "--runs", str(run)),
        ),
    }
    for name, step in steps.items():
        step.run(folder / name)
        if name == "evaluate":
            shutil.copytree(folder / "evaluate", run / "evaluation_results")
    return Chain(steps, folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@dataclass(frozen=True)
class SmallDisk:
    """A file system of one megabyte."""

    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self, room: int = 0) -> None:
        """Leave so many bytes."""
        with self._ballast.open("wb", buffering=0) as stream:
            block = bytes(4096)
            with pytest.raises(OSError, match="No space left"):
                while True:
                    stream.write(block)
            stream.truncate(max(0, stream.tell() - room))

    def make_room(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink()

    def remount(self, option: str) -> None:
        """Mount again as `ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{option}", self.folder], check=True)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[SmallDisk]:
    """A mounted file system; skipped where this user may mount none."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)
