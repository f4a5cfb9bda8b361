"""The steps of a run as their rules start them: commands, what they write, and the least that they can take."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from frozenalign.configuration.experiments import Experiment, load_experiment
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.models.model_file import load_heads
from tests.benchmarks.coco.floors import Work
from tests.benchmarks.coco.rates import Rates

STEPS = ("split", "baselines", "train", "evaluate", "curves", "figures", "report")
BASELINES = ("cca", "ridge", "procrustes")
FRACTIONS = {"train": 0.8, "val": 0.01, "test": 0.04}


@dataclass(frozen=True)
class Step:
    """One command of a run. writes: what it writes, which is removed before, so that nothing is found finished.

    floor: returns the least processor seconds, called after the command; None where neither bytes nor products say.
    """

    kind: str
    name: str
    arguments: Sequence[object]
    writes: Sequence[Path]
    floor: Callable[[], float] | None = None

    @property
    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", f"workflow.scripts.{self.kind}", *map(str, self.arguments)]

    def clear(self) -> None:
        """Remove what an earlier run has written."""
        for path in self.writes:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Run:
    """A run in a folder, with data in FOLDER/data. experiments: files of one epoch; work, rates: for the floors."""

    folder: Path
    baselines: tuple[str, ...]
    experiments: dict[str, Path]
    work: Work
    rates: Rates
    fractions: dict[str, float]

    @classmethod
    def of(
        cls,
        folder: Path,
        baselines: tuple[str, ...],
        heads: dict[str, Path],
        work: Work,
        rates: Rates,
        fractions: dict[str, float],
    ) -> "Run":
        """Return a run that trains one epoch of each experiment file of `heads`."""
        experiments = {name: one_epoch(path, folder) for name, path in heads.items()}
        return cls(folder, baselines, experiments, work, rates, fractions)

    @property
    def results(self) -> dict[str, Path]:
        """Return the folders of all baselines and heads."""
        return {name: self.results_of(name) for name in (*self.baselines, *self.experiments)}

    def steps(self) -> Iterator[Step]:
        """Yield all steps in their order."""
        yield self._split()
        yield self._baselines()
        yield from (self._training(name) for name in self.experiments)
        yield from (self._evaluation(name) for name in self.results)
        yield from self._drawing()
        yield self._report()

    def results_of(self, name: str) -> Path:
        """Return the folder of a head's or a baseline's results."""
        return self.folder / name / "seed0"

    @property
    def _where(self) -> list[object]:
        return ["--data-dir", self.folder / "data", "--split-dir", self.folder / "split"]

    def _split(self) -> Step:
        data, split = self.folder / "data", self.folder / "split"
        arguments = ["--dataset", "planted", "--data-dir", data, "--output-dir", split]
        arguments += ["--fractions", json.dumps(self.fractions)]
        floor = partial(self.work.split_seconds, self.rates, sorted(data.glob("*.pt")))
        return Step("split", "split", arguments, [split], floor)

    def _baselines(self) -> Step:
        arguments = ["--baselines", *self.baselines, "--dataset", "planted", *self._where, "--output-dir", self.folder]
        written = [self.results_of(name) for name in self.baselines]
        return Step("baselines", "baselines", arguments, written, partial(self.work.moment_seconds, self.rates))

    def _training(self, name: str) -> Step:
        output, experiment = self.results_of(name), load_experiment(self.experiments[name])
        arguments = ["--experiment", self.experiments[name], "--dataset", "planted", *self._where]
        arguments += ["--output-dir", output, "--device", "cpu", *self._start(experiment)]
        floor = partial(self.work.epoch_seconds, self.rates, experiment)
        return Step("train", f"train {name}", arguments, [output], floor)

    def _start(self, experiment: Experiment) -> list[object]:
        return ["--start", self.results_of("cca") / "best_model.pt"] if experiment.takes_a_start else []

    def _evaluation(self, name: str) -> Step:
        model = self.results_of(name) / "best_model.pt"
        output = self.results_of(name) / "evaluation_results"
        arguments = ["--model", model, *self._where, "--output-dir", output, "--device", "cpu"]
        floor = lambda: self.work.evaluation_seconds(self.rates, load_heads(model)[0])  # noqa: E731
        return Step("evaluate", f"evaluate {name}", arguments, [output], floor)

    def _drawing(self) -> Iterator[Step]:
        trained = [self.results_of(name) for name in self.experiments]
        evaluated = [results / "evaluation_results" for results in self.results.values()]
        yield Step("curves", "curves", ["--runs", *trained], [folder / "training_curves.png" for folder in trained])
        pictures = [path for folder in evaluated for path in folder.glob("*.png")]
        yield Step("figures", "figures", ["--evaluations", *evaluated], pictures)

    def _report(self) -> Step:
        output = self.folder / "report"
        arguments = ["--dataset-name", "planted", "--data-dir", self.folder / "data", "--output-dir", output]
        arguments += ["--manifest", self.folder / "split" / "manifest.json", "--runs", *self.results.values()]
        return Step("report", "report", arguments, [output])


def one_epoch(experiment: Path, folder: Path) -> Path:
    """Write the experiment with a single epoch into FOLDER/experiments and return the file."""
    document = read_yaml(experiment)
    document["training"]["num_epochs"] = 1
    path = folder / "experiments" / experiment.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path
