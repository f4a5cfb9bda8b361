"""A run to search in, made by the steps: a set of generated scenes, its split, closed forms and their evaluations."""

import json
from pathlib import Path

from workflow.scripts.baselines import main as baselines
from workflow.scripts.evaluate import main as evaluate
from workflow.scripts.split import main as split

COUNTS = {"train": 30, "val": 5, "test": 5}
HEADS = ("cca", "ridge")


def write_run(data: Path, results: Path, counts: dict[str, int] = COUNTS) -> Path:
    """Split a data set, fit and evaluate two closed forms in results/DATASET, and return that folder."""
    folders = ["--data-dir", str(data), "--split-dir", str(results / "split")]
    where = ["--data-dir", str(data), "--output-dir", str(results / "split")]
    split(["--dataset", results.name, *where, "--counts", json.dumps(counts)])
    baselines(["--baselines", *HEADS, "--dataset", results.name, *folders, "--output-dir", str(results)])
    for name in HEADS:
        run = results / name / "seed0"
        output = ["--output-dir", str(run / "evaluation_results")]
        evaluate(["--model", str(run / "best_model.pt"), *folders, *output, "--device", "cpu"])
    return results
