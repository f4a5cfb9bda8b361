"""The rows of the one table: means over seeds, single seeds and blocks of 1,000 images, each with what narrows it."""

from typing import Any

from frozenalign.evaluation.metrics import SECOND_RANKINGS
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.leaderboard import PLAIN, RunResult, fold_board, parts_of, rows_of

WHOLE, FOLDS = "whole split", "1K blocks"
MEAN = "mean"
# What a row can be narrowed by, with the name of the group and the values that a reader sees at first.
FACETS = {
    "kind": ("Kind", None),
    "ranking": ("Ranking", (PLAIN, SECOND_RANKINGS["reranked"])),
    "gallery": ("Gallery", (WHOLE,)),
    "seed": ("Seeds", (MEAN,)),
}


def board_rows(found: Findings) -> list[dict[str, Any]]:
    """Return all rows, those of the leaderboard first: its columns, a unique `name`, and a value of each facet.

    Columns that a row does not have are absent: only means over seeds on the whole split are compared.
    """
    rows = [row | _facets(row["experiment"]) for row in found.table.to_dict("records")]
    folds = fold_board(found.board_runs)
    for row in [] if folds is None else folds.to_dict("records"):
        rows.append(row | _facets(row["experiment"], gallery=FOLDS))
    for run in found.board_runs:
        if sum(other.experiment == run.experiment for other in found.board_runs) > 1:
            rows += [_of_seed(run, row) for row in rows_of(run)]
    return rows


def choices(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each facet in which rows differ: key, title, and its options with whether they are shown at first."""
    found = []
    for key, (title, first) in FACETS.items():
        values = list(dict.fromkeys(row[key] for row in rows))
        if len(values) > 1:
            found.append(
                {"key": key, "title": title, "options": [(value, not first or value in first) for value in values]}
            )
    return found


def _facets(name: str, gallery: str = WHOLE, seed: str = MEAN) -> dict[str, str]:
    experiment, ranking = parts_of(name)
    parts = [name, *([gallery] if gallery != WHOLE else []), *([seed] if seed != MEAN else [])]
    return {"name": ", ".join(parts), "of": experiment, "ranking": ranking, "gallery": gallery, "seed": seed}


def _of_seed(run: RunResult, row: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a single seed with the interval of its own evaluation."""
    _, ranking = parts_of(row["experiment"])
    key = next((key for key, name in SECOND_RANKINGS.items() if name == ranking), None)
    low, high = (run.metrics[key] if key else run.metrics)["intervals"]["full"]["RSUM"]
    return row | {"RSUM_low": low, "RSUM_high": high} | _facets(row["experiment"], seed=f"seed {run.seed}")
