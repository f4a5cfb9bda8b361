"""The studies: their trials, the best of them, and how much each parameter mattered."""

from pathlib import Path
from typing import Any

from frozenalign.configuration.result_files import RUN_AGAIN, read_result
from frozenalign.configuration.studies import TRIAL_COLUMNS
from frozenalign.configuration.yaml_text import YAML_BYTES
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.pictures import embedded_plot
from frozenalign.system.files import read_text
from frozenalign.tuning.trial_tables import read_trials

TOP_TRIALS = 5


def content(found: Findings) -> dict[str, Any] | None:
    """Return every study, or None without one."""
    return {"studies": [study(folder) for folder in found.source.studies]} if found.source.studies else None


def study(folder: Path) -> dict[str, Any]:
    """Return what the page shows of a study, from the files in its folder."""
    trials = read_trials(folder / "trials.csv")
    complete = trials[trials["state"] == "COMPLETE"]
    return {
        "name": folder.name,
        "monitor": read_result(folder / "study.json")["monitor"],
        "trials": len(trials),
        "seconds": float(trials["seconds"].sum()),
        "states": trials["state"].value_counts().to_dict(),
        "reasons": sorted(set(trials["reason"].dropna())),
        "parameters": [name for name in trials.columns if name not in TRIAL_COLUMNS],
        "top": complete.nlargest(TOP_TRIALS, "value").to_dict("records"),
        "history": embedded_plot(folder / "optimization_history.png"),
        "importance": embedded_plot(folder / "parameter_importance.png"),
        "best": read_text(folder / "best_config.yaml", YAML_BYTES, RUN_AGAIN),
    }
