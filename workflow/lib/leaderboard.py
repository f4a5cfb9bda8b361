"""Finished runs as rows of a table, and the verdict: which head validation chose, how far above a baseline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow.lib.errors import UserError
from workflow.lib.files import read_json
from workflow.lib.metrics import DIRECTIONS, RECALLS
from workflow.lib.uncertainty import Comparison, ImageHits, compared, interval, resampled_recalls
from workflow.lib.validation import read_yaml

SHOWN_METRICS = (*RECALLS, "MedR", "MRR")


@dataclass(frozen=True)
class RunResult:
    """What one run folder, results/DATASET/EXPERIMENT/seedK, holds: metrics.json, run.json, resolved_config.yaml.

    hits: of ranks.npz, by the name of the board's row that they stand for.
    """

    folder: Path
    metrics: dict[str, Any]
    facts: dict[str, Any]
    settings: dict[str, Any]
    hits: dict[str, ImageHits]

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
    comparison: Comparison | None


def read_run(folder: Path) -> RunResult:
    """Read a run folder after its evaluation."""
    metrics = read_json(folder / "evaluation_results" / "metrics.json")
    return RunResult(
        folder,
        metrics,
        read_json(folder / "run.json"),
        read_yaml(folder / "resolved_config.yaml"),
        _hits(metrics["experiment"], folder / "evaluation_results" / "ranks.npz"),
    )


def _hits(experiment: str, path: Path) -> dict[str, ImageHits]:
    with np.load(path, allow_pickle=False) as ranks:
        hits = {experiment: ImageHits.of(ranks["i2t"], ranks["t2i"], ranks["caption_image"])}
        if "reranked_t2i" in ranks:
            again = ImageHits.of(ranks["reranked_i2t"], ranks["reranked_t2i"], ranks["caption_image"])
            hits[reranked_name(experiment)] = again
    return hits


def reranked_name(experiment: str) -> str:
    """Return the name of the second row of a head with a pair scorer."""
    return f"{experiment}, re-ranked"


def leaderboard(runs: Iterable[RunResult]) -> pd.DataFrame:
    """Return one row for each experiment, means over its seeds, highest test RSUM first.

    A head with a pair scorer has a second row, `NAME, re-ranked`. RSUM_low and RSUM_high resample the test images. Each
    row is compared on the same draws with the baseline that validation chose and with the row below it.
    """
    runs = list(runs)
    _refuse_mixed_protocols(runs)
    table = _mean_over_seeds([row for run in runs for row in _rows(run)])
    hits = [ImageHits.mean([run.hits[name] for run in runs if name in run.hits]) for name in table["experiment"]]
    resampled = resampled_recalls(hits).sum((2, 3))
    table["RSUM_low"], table["RSUM_high"] = np.array([interval(values) for values in resampled.T]).T
    baseline = _best(table, "baseline")
    below = [*table.index[1:], None]
    return pd.concat(
        [
            table,
            _comparisons(
                table, resampled, "baseline", [None if place == baseline else baseline for place in table.index]
            ),
            _comparisons(table, resampled, "next", below),
        ],
        axis=1,
    )


def _refuse_mixed_protocols(runs: Sequence[RunResult]) -> None:
    first = runs[0]
    for run in runs:
        if run.metrics["protocol"] != first.metrics["protocol"]:
            raise UserError(
                f"{run.folder} and {first.folder} are evaluated on other test rows: evaluate both with the same "
                "--split and --captions-rule"
            )


def _best(table: pd.DataFrame, kind: str) -> int | None:
    """Return the place of the head or baseline that validation chose, None where there is none."""
    of_kind = table[(table["kind"] == kind) & table["validation_RSUM"].notna()]
    return None if of_kind.empty else int(of_kind["validation_RSUM"].idxmax())


def _comparisons(table: pd.DataFrame, resampled: np.ndarray, title: str, others: Sequence[int | None]) -> pd.DataFrame:
    """Return difference, ends of its interval and outcome of each row against the row at `others`, empty for None."""
    rows = []
    for place, other in enumerate(others):
        if other is None:
            rows.append((np.nan, np.nan, np.nan, ""))
            continue
        found = compared(table["RSUM"][place] - table["RSUM"][other], resampled[:, place], resampled[:, other])
        rows.append((found.difference, found.low, found.high, found.outcome))
    return pd.DataFrame(rows, columns=[f"{title}_{part}" for part in ("difference", "low", "high", "outcome")])


def fold_board(runs: Iterable[RunResult]) -> pd.DataFrame | None:
    """Return the leaderboard of the 1K protocol, or None where its blocks are not other queries than the full split."""
    rows = [
        _described(run) | _recalls(run.metrics["1k"])
        for run in runs
        if run.metrics["1k"] and run.metrics["protocol"]["images"] > 1000
    ]
    return _mean_over_seeds(rows) if rows else None


def _rows(run: RunResult) -> list[dict[str, Any]]:
    row = _described(run) | _recalls(run.metrics["full"])
    reranked = run.metrics["reranked"]
    if reranked is None:
        return [row]
    again = row | {"experiment": reranked_name(run.experiment), "validation_RSUM": np.nan}
    return [row, again | _recalls(reranked["full"])]


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


def _mean_over_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    groups = pd.DataFrame(rows).groupby(["experiment", "kind"], sort=False)
    table = groups.mean().drop(columns="seed")
    table.insert(0, "seeds", groups.size())
    table.insert(2, "RSUM_std", groups["RSUM"].std())
    table["parameters"] = table["parameters"].astype(int)
    return table.reset_index().sort_values("RSUM", ascending=False, ignore_index=True, kind="stable")


def verdict(table: pd.DataFrame) -> Verdict | None:
    """Return what a leaderboard says of its heads, None where it has none; validation alone chooses whom to compare."""
    head, baseline = _best(table, "head"), _best(table, "baseline")
    if head is None:
        return None
    row = table.loc[head]
    if baseline is None:
        return Verdict(row["experiment"], None, None)
    comparison = Comparison(*(float(row[f"baseline_{part}"]) for part in ("difference", "low", "high")))
    return Verdict(row["experiment"], table["experiment"][baseline], comparison)


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
