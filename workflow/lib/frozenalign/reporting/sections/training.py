"""How every head was trained: its curves and its settings."""

from typing import Any

import yaml

from frozenalign.configuration.result_files import read_result
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.leaderboard import RunResult
from frozenalign.reporting.pictures import embedded_plot

# Said elsewhere on the page, or of no interest there.
DESCRIBED = ("format", "description", "experiment", "kind", "seed")


def content(found: Findings) -> dict[str, Any] | None:
    """Return the training of every head and seed, or None without heads."""
    return {"heads": [_training(run) | {"shown": run is found.shown} for run in found.heads]} if found.heads else None


def _training(run: RunResult) -> dict[str, Any]:
    history = read_result(run.folder / "loss_history.json")
    settings = {key: value for key, value in run.settings.items() if key not in DESCRIBED}
    return {
        "name": run.experiment,
        "seed": run.seed,
        "description": run.settings.get("description", ""),
        "best_epoch": history["best_epoch"],
        "epochs": history["epochs"][-1]["epoch"],
        "seconds": run.facts["seconds"],
        "curves": embedded_plot(run.folder / "training_curves.png"),
        "settings": yaml.safe_dump(settings, sort_keys=False),
    }
