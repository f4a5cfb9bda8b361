"""The evaluation sets: what every head, ensemble and baseline reaches on each, and what chance would."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from frozenalign.configuration.registrations import evaluation_sets
from frozenalign.configuration.result_files import read_result
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.leaderboard import RunResult
from frozenalign.system.errors import UserError

SETS = "evaluation_sets/sets.json"


@dataclass(frozen=True)
class SetResults:
    """The results of all runs on one evaluation set, the best by the first metric first.

    explained: what the kind measures. rows: experiment, kind, seed, metrics and intervals of each run.
    """

    name: str
    kind: str
    explained: str
    source: str
    counts: dict[str, int]
    metrics: list[str]
    chance: dict[str, float]
    rows: list[dict[str, Any]]
    warnings: list[str]


def content(found: Findings) -> dict[str, Any] | None:
    """Return the results on each evaluation set, from sets.json of every run, or None without sets."""
    names = found.source.evaluation_sets
    if not names:
        return None
    by_run = [(run, _sets_of(run, names)) for run in found.board_runs]
    return {"sets": [_results_on(name, [(run, sets[name]) for run, sets in by_run]) for name in names]}


def _sets_of(run: RunResult, names: Sequence[str]) -> dict[str, Any]:
    """Return the results of a run by set; those of another model, or without one of the sets, are refused."""
    path = run.folder / SETS
    content = read_result(path)
    if content["models"] != run.facts["models"]:
        raise UserError(f"{path} was not made from the model that run.json describes: evaluate the sets again")
    if missing := [name for name in names if name not in content["sets"]]:
        raise UserError(f"{path} has no results on {missing[0]}: evaluate the sets again")
    return content["sets"]


def _results_on(name: str, results: Sequence[tuple[RunResult, dict[str, Any]]]) -> SetResults:
    first = results[0][1]
    for run, each in results:
        if (
            any(each[key] != first[key] for key in ("kind", "source", "counts"))
            or each["metrics"].keys() != first["metrics"].keys()
        ):
            raise UserError(
                f"{run.folder / SETS}: {name} is another set than in {results[0][0].folder}: evaluate the sets again"
            )
    metrics = list(first["metrics"])
    rows = [
        {"experiment": run.experiment, "kind": run.metrics["kind"], "seed": run.seed}
        | {key: each[key] for key in ("metrics", "intervals")}
        for run, each in results
    ]
    registered = evaluation_sets().get(first["kind"])
    return SetResults(
        name,
        first["kind"].replace("_", " "),
        registered.description if registered else "",
        first["source"],
        first["counts"],
        metrics,
        first["chance"],
        sorted(rows, key=lambda row: -row["metrics"][metrics[0]]),
        list(dict.fromkeys(text for _, each in results for text in each["warnings"])),
    )
