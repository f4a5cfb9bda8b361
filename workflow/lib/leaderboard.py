"""Finished runs as rows of a table, and the verdict: which head validation chose, how far above a baseline."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow.lib.files import read_json
from workflow.lib.metrics import DIRECTIONS, RECALLS
from workflow.lib.validation import read_yaml

SHOWN_METRICS = (*RECALLS, "MedR", "MRR")


@dataclass(frozen=True)
class RunResult:
    """What one run folder, results/DATASET/EXPERIMENT/seedK, holds: metrics.json, run.json, resolved_config.yaml."""

    folder: Path
    metrics: dict[str, Any]
    facts: dict[str, Any]
    settings: dict[str, Any]

    @property
    def experiment(self) -> str:
        """Return the name of the experiment or baseline."""
        return self.metrics["experiment"]

    @property
    def seed(self) -> int:
        """Return the seed."""
        return self.metrics["seed"]

    @property
    def is_head(self) -> bool:
        """Say whether this is a trained head, not a baseline."""
        return self.metrics["kind"] == "head"


@dataclass(frozen=True)
class Verdict:
    """The head and the baseline with the highest validation RSUM, and the test RSUM of one above the other."""

    head: str
    baseline: str | None
    difference: float | None
    distinguishable: bool | None


def read_run(folder: Path) -> RunResult:
    """Read a run folder after its evaluation."""
    return RunResult(
        folder,
        read_json(folder / "evaluation_results" / "metrics.json"),
        read_json(folder / "run.json"),
        read_yaml(folder / "resolved_config.yaml"),
    )


def leaderboard(runs: Iterable[RunResult]) -> pd.DataFrame:
    """Return one row for each experiment, means over its seeds, highest test RSUM first.

    A head with a pair scorer has a second row, `NAME, re-ranked`. Interval ends are means over the seeds' intervals.
    """
    rows = [row for run in runs for row in _rows(run)]
    return _mean_over_seeds(rows)


def fold_board(runs: Iterable[RunResult]) -> pd.DataFrame | None:
    """Return the leaderboard of the 1K protocol, or None where its blocks are not other queries than the full split."""
    rows = [
        _described(run) | _recalls(run.metrics["1k"])
        for run in runs
        if run.metrics["1k"] and run.metrics["protocol"]["images"] > 1000
    ]
    return _mean_over_seeds(rows) if rows else None


def _rows(run: RunResult) -> list[dict[str, Any]]:
    row = _described(run) | _recalls(run.metrics["full"]) | _interval(run.metrics["intervals"])
    reranked = run.metrics["reranked"]
    if reranked is None:
        return [row]
    name = f"{run.experiment}, re-ranked"
    again = row | {"experiment": name, "validation_RSUM": np.nan}
    return [row, again | _recalls(reranked["full"]) | _interval(reranked["intervals"])]


def _described(run: RunResult) -> dict[str, Any]:
    return {
        "experiment": run.experiment,
        "kind": run.metrics["kind"],
        "seed": run.seed,
        "validation_RSUM": run.metrics["selected"]["RSUM"],
        "parameters": run.facts["parameters"],
        "seconds": run.facts["seconds"],
    }


def _recalls(summary: Mapping[str, Any]) -> dict[str, float]:
    named = {f"{direction}_{name}": summary[direction][name] for direction in DIRECTIONS for name in SHOWN_METRICS}
    return {"RSUM": summary["RSUM"]} | named


def _interval(intervals: Mapping[str, Any]) -> dict[str, float]:
    low, high = intervals["full"]["RSUM"]
    return {"RSUM_low": low, "RSUM_high": high}


def _mean_over_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    groups = pd.DataFrame(rows).groupby(["experiment", "kind"], sort=False)
    table = groups.mean().drop(columns="seed")
    table.insert(0, "seeds", groups.size())
    table.insert(2, "RSUM_std", groups["RSUM"].std())
    table["parameters"] = table["parameters"].astype(int)
    return table.reset_index().sort_values("RSUM", ascending=False, ignore_index=True, kind="stable")


def verdict(table: pd.DataFrame) -> Verdict | None:
    """Return what a leaderboard says of its heads, None where it has none; validation alone chooses whom to compare."""
    heads = table[(table["kind"] == "head") & table["validation_RSUM"].notna()]
    baselines = table[table["kind"] == "baseline"]
    if heads.empty:
        return None
    head = heads.loc[heads["validation_RSUM"].idxmax()]
    if baselines.empty:
        return Verdict(head["experiment"], None, None, None)
    baseline = baselines.loc[baselines["validation_RSUM"].idxmax()]
    apart = head["RSUM_low"] > baseline["RSUM_high"] or head["RSUM_high"] < baseline["RSUM_low"]
    return Verdict(head["experiment"], baseline["experiment"], float(head["RSUM"] - baseline["RSUM"]), bool(apart))


def chance(images: int, captions: int) -> dict[str, float]:
    """Return the recalls and RSUM of a random order, in percent, for images that share the captions evenly."""
    own = max(1, round(captions / images))
    named: dict[str, float] = {}
    for name in RECALLS:
        k = int(name.removeprefix("R@"))
        missed = comb(captions - own, min(k, captions)) / comb(captions, min(k, captions))
        named[f"i2t_{name}"] = 100.0 * (1.0 - missed)
        named[f"t2i_{name}"] = 100.0 * min(1.0, k / images)
    return {"RSUM": sum(named.values())} | named
