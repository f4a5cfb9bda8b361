"""The leaderboard: every head, ensemble, baseline and control, and what a random order would reach."""

from typing import Any

from frozenalign.plots.leaderboard import leaderboard_figure
from frozenalign.reporting.controls import control_results
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.leaderboard import CORRECTED, RunResult, fold_board
from frozenalign.reporting.pictures import embedded_figure


def content(found: Findings) -> dict[str, Any]:
    """Return the rows of the boards, their picture, the controls and the extra sets."""
    folds = fold_board(found.board_runs)
    # Title and column prefix of each comparison on the board.
    chosen = found.verdict
    versus = [(f"against {chosen.baseline}", "baseline")] if chosen and chosen.baseline else []
    versus += [("against the next", "next")] if len(found.plain) > 1 else []
    return {
        "versus": versus,
        "rows": found.plain.to_dict("records"),
        "corrected": found.table[found.table[CORRECTED]].to_dict("records"),
        "folds": None if folds is None else folds.to_dict("records"),
        "controls": control_results(found.table, found.chance["RSUM"]),
        "extra": _extra_sets(found.board_runs),
        "picture": embedded_figure(leaderboard_figure(found.plain)),
    }


def _extra_sets(runs: list[RunResult]) -> dict[str, list[dict[str, Any]]]:
    """Return the results of the extra evaluation sets by name, best first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for name, metrics in (run.metrics["extra"] or {}).items():
            found.setdefault(name, []).append(metrics | {"experiment": run.experiment, "seed": run.seed})
    return {name: sorted(results, key=lambda result: -result["full"]["RSUM"]) for name, results in found.items()}
