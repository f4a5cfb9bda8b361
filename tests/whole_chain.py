"""The steps by hand, one after the other, on data that a test has written: from a folder of embeddings to the page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenalign.system.files import read_json
from workflow.scripts.baselines import main as baselines
from workflow.scripts.curves import main as curves
from workflow.scripts.evaluate import main as evaluate
from workflow.scripts.figures import main as figures
from workflow.scripts.report import main as report
from workflow.scripts.split import main as split
from workflow.scripts.train import main as train

LINEAR = """
model: {type: linear, output_dim: 4}
loss: {type: clip}
training: {batch_size: 16, num_epochs: 2, warmup_steps: 1}
"""
PICTURES = ("recall_at_k", "similarity_histogram", "embedding_pca", "embedding_tsne")


@dataclass(frozen=True)
class Results:
    """What the chain has written: the manifest, metrics.json of the head, and the page of head and baseline."""

    manifest: dict[str, Any]
    metrics: dict[str, Any]
    page: str


def run_steps(data: Path, folder: Path, *division: object, train_options: tuple[object, ...] = ()) -> Results:
    """Split the data, train a linear head, fit the CCA, evaluate and draw both, and write the page."""
    divided = divide(data, folder, *division)
    folders = ["--data-dir", data, "--split-dir", divided, "--device", "cpu"]
    (folder / "linear.yaml").write_text(LINEAR)
    runs = [folder / "linear" / "seed0", folder / "cca" / "seed0"]
    _run(train, "--experiment", folder / "linear.yaml", "--output-dir", runs[0], *folders, *train_options)
    _run(baselines, "--baselines", "cca", "--output-dir", folder, *folders[:4])
    evaluated = [run / "evaluation_results" for run in runs]
    for run, output in zip(runs, evaluated, strict=True):
        _run(evaluate, "--model", run / "best_model.pt", "--output-dir", output, *folders)
    _run(curves, "--runs", runs[0])
    _run(figures, "--evaluations", *evaluated)
    assert all((output / f"{name}.png").is_file() for output in evaluated for name in PICTURES)
    manifest = divided / "manifest.json"
    shown = ["--dataset-name", "d", "--data-dir", data, "--manifest", manifest, "--runs", *runs]
    _run(report, *shown, "--output-dir", folder / "report")
    page = (folder / "report" / "index.html").read_text()
    return Results(read_json(manifest), read_json(evaluated[0] / "metrics.json"), page)


def divide(data: Path, folder: Path, *division: object) -> Path:
    """Split the data by counts (a mapping), or by arguments of the script, and return the folder of the split."""
    how = ["--counts", json.dumps(division[0]), *division[1:]] if isinstance(division[0], dict) else division
    _run(split, "--dataset", "d", "--data-dir", data, "--output-dir", folder / "split", *how)
    return folder / "split"


def _run(script: Any, *arguments: object) -> None:
    script([str(argument) for argument in arguments])
