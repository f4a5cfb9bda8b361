"""The leaderboard: every head, ensemble, baseline and control, and what a random order would reach."""

from typing import Any

from frozenalign.reporting.board_rows import board_rows, choices
from frozenalign.reporting.controls import control_results
from frozenalign.reporting.copied_tables import copied_tables
from frozenalign.reporting.figures import board_figure
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.leaderboard import RunResult
from frozenalign.reporting.pictures import embedded_figure


def content(found: Findings) -> dict[str, Any]:
    """Return the rows, what narrows them, the same as text, their picture, the controls and the extra sets."""
    rows = board_rows(found)
    chosen = found.verdict
    # Title and column prefix of each comparison on the board.
    versus = [(f"against {chosen.baseline}", "baseline")] if chosen and chosen.baseline else []
    versus += [("against the next", "next")] if len(found.plain) > 1 else []
    return {
        "versus": versus,
        "rows": rows,
        "choices": choices(rows),
        "several_seeds": int(found.table["seeds"].max()) > 1,
        "copied": copied_tables(found, rows),
        "controls": control_results(found.table, found.chance["RSUM"]),
        "extra": _extra_sets(found.board_runs),
        "picture": embedded_figure(board_figure(found)),
    }


def _extra_sets(runs: list[RunResult]) -> dict[str, list[dict[str, Any]]]:
    """Return the results of the extra evaluation sets by name, best first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for name, metrics in (run.metrics["extra"] or {}).items():
            found.setdefault(name, []).append(metrics | {"experiment": run.experiment, "seed": run.seed})
    return {name: sorted(results, key=lambda result: -result["full"]["RSUM"]) for name, results in found.items()}
