"""The report of a small run with two seeds of a head, an ensemble of them, a control and closed forms."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from frozenalign.system.files import write_yaml
from workflow.scripts import baselines, ensemble, evaluate, report, train

EXPERIMENT = {
    "description": "A line.",
    "model": {"type": "linear", "output_dim": 4},
    "loss": {"type": "infonce"},
    "training": {"batch_size": 8, "num_epochs": 1},
}


def call(main, *arguments: object) -> None:
    main([str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def report_runs(data_dir, split_dir, tmp_path_factory) -> Sequence[Path]:
    """The run folders; tests leave them as they found them."""
    results = tmp_path_factory.mktemp("results")
    read = ["--data-dir", data_dir, "--split-dir", split_dir]
    experiment = results / "line.yaml"
    write_yaml(experiment, EXPERIMENT)
    shuffled = results / "line-shuffled.yaml"
    write_yaml(shuffled, EXPERIMENT | {"training": EXPERIMENT["training"] | {"control": "shuffled_pairs"}})
    heads = {results / f"line/seed{seed}": (experiment, seed) for seed in (0, 1)}
    heads[results / "line-shuffled/seed0"] = (shuffled, 0)
    for folder, (settings, seed) in heads.items():
        common = ["--dataset=small", *read, "--device=cpu", "--seed", seed, "--output-dir", folder]
        call(train.main, *common, "--experiment", settings)
    call(baselines.main, "--dataset=small", *read, "--baselines", "cca", "ridge", "--output-dir", results)
    runs = [*heads, results / "cca/seed0", results / "ridge/seed0"]
    for folder in runs:
        model = ["--model", folder / "best_model.pt", "--output-dir", folder / "evaluation_results"]
        call(evaluate.main, *model, *read, "--device=cpu")
    members = [folder / "best_model.pt" for folder in runs[:2]]
    both = results / "both/seed0"
    call(ensemble.main, "--models", *members, *read, "--device=cpu", "--output-dir", both, "--name=both")
    return [*runs, both]


@pytest.fixture(scope="session")
def report_folder(report_runs, data_dir, split_dir, tmp_path_factory) -> Path:
    """The folder of the report."""
    folder = tmp_path_factory.mktemp("report")
    source = ["--dataset-name=small", "--data-dir", data_dir, "--manifest", split_dir / "manifest.json"]
    call(report.main, *source, "--runs", *report_runs, "--output-dir", folder)
    return folder
