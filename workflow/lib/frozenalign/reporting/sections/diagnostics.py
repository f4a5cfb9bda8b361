"""The geometry of the projections, and where retrieval fails."""

from typing import Any

from frozenalign.configuration.result_files import read_result
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.leaderboard import RunResult


def content(found: Findings) -> dict[str, Any]:
    """Return the diagnostics of the first seeds in the order of the board, and the failures of the shown run."""
    order = found.table["experiment"].tolist()
    return {
        "diagnostics": [
            run.metrics["diagnostics"] | {"experiment": run.experiment, "kind": run.metrics["kind"]}
            for run in sorted(found.first_seeds, key=lambda run: order.index(run.experiment))
        ],
        "failures": _failures(found.shown),
    }


def _failures(run: RunResult) -> dict[str, Any]:
    """Return where text-to-image retrieval fails: recall by caption length, and the worst queries."""
    return {
        "experiment": run.experiment,
        "seed": run.seed,
        "images": run.metrics["protocol"]["images"],
        "lengths": run.metrics["diagnostics"]["recall_by_caption_length"],
        "queries": read_result(run.folder / "evaluation_results" / "worst_queries.json")["queries"],
    }
