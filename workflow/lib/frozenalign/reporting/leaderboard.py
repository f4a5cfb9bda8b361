"""The leaderboard of finished runs, and the verdict: the head that validation chose, compared with a baseline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from frozenalign.configuration.result_files import read_ranks, read_result
from frozenalign.evaluation.metrics import CORRECTED, DIRECTIONS, RECALLS, SECOND_RANKINGS
from frozenalign.evaluation.uncertainty import Comparison, ImageHits, compared, interval, resampled_recalls
from frozenalign.system.errors import UserError, quoted

SHOWN_METRICS = (*RECALLS, "MedR", "MRR")
PLAIN = "plain"
# Kinds whose settings describe a training.
TRAINED = ("head", "variant", "control")


@dataclass(frozen=True)
class RunResult:
    """The content of a run folder, results/DATASET/EXPERIMENT/seedK: metrics.json, run.json, resolved_config.yaml.

    hits: from ranks.npz, by the name of their row on the leaderboard.
    """

    folder: Path
    metrics: dict[str, Any]
    facts: dict[str, Any]
    settings: dict[str, Any]
    hits: dict[str, ImageHits]

    @property
    def experiment(self) -> str:
        """Return the name of the experiment, ensemble or baseline."""
        return self.metrics["experiment"]

    @property
    def seed(self) -> int:
        """Return the seed."""
        return self.metrics["seed"]

    @property
    def is_head(self) -> bool:
        """Return whether this is a trained head, not a baseline or an ensemble."""
        return self.metrics["kind"] not in ("baseline", "ensemble")


@dataclass(frozen=True)
class Verdict:
    """The head and the baseline with the highest validation RSUM, and the comparison of their test RSUMs."""

    head: str
    baseline: str | None
    comparison: Comparison | None


def read_run(folder: Path) -> RunResult:
    """Read a run folder after its evaluation."""
    metrics = read_result(folder / "evaluation_results" / "metrics.json")
    settings = read_result(folder / "resolved_config.yaml")
    own, kind = settings["kind"], metrics["kind"]
    if (own in TRAINED) != (kind in TRAINED) or (kind == "variant" and own != "variant"):
        raise UserError(
            f"{folder}: resolved_config.yaml is of a {quoted(own)}, metrics.json of a {kind}: "
            "delete the folder and run its steps again"
        )
    facts = read_result(folder / "run.json")
    if metrics["models"] != facts["models"]:
        raise UserError(
            f"{folder}: metrics.json was not made from the model that run.json describes: evaluate it again"
        )
    experiment, protocol = metrics["experiment"], metrics["protocol"]
    second = [key for key in SECOND_RANKINGS if metrics[key]]
    path = folder / "evaluation_results" / "ranks.npz"
    ranks = read_ranks(path, protocol["images"], protocol["captions"], second)
    owner = ranks["caption_image"]
    hits = {experiment: ImageHits.of(ranks["i2t"], ranks["t2i"], owner)}
    for key in second:
        hits[ranking_name(experiment, key)] = ImageHits.of(ranks[f"{key}_i2t"], ranks[f"{key}_t2i"], owner)
    return RunResult(folder, metrics, facts, settings, hits)


def ranking_name(experiment: str, key: str) -> str:
    """Return the name of an experiment's row for a second ranking, by its key in metrics.json."""
    return f"{experiment}, {SECOND_RANKINGS[key]}"


def parts_of(name: str) -> tuple[str, str]:
    """Return the experiment of a row of the leaderboard, and its ranking: plain, or the name of a second one."""
    experiment, _, ranking = name.rpartition(", ")
    return (experiment, ranking) if experiment and ranking in SECOND_RANKINGS.values() else (name, PLAIN)


def leaderboard(runs: Iterable[RunResult]) -> pd.DataFrame:
    """Return one row for each experiment and variant, means over its seeds, highest test RSUM first.

    A head with a pair scorer has a row `NAME, re-ranked`. The rows `NAME, hubness-corrected` come below all others, as
    a second board. RSUM_low and RSUM_high resample the test images. Each row is compared on the same draws with the
    baseline that validation chose and with the row below it, both on the same board.
    """
    runs = list(runs)
    refuse_mixed_protocols(runs)
    refuse_repeated(runs)
    table, hits = scores(runs)
    resampled = resampled_recalls(hits).sum((2, 3))
    table["RSUM_low"], table["RSUM_high"] = np.array([interval(values) for values in resampled.T]).T
    baseline = _comparisons(table, resampled, "baseline", _baselines(table))
    boards = [*table[CORRECTED], None]
    next_rows = [place + 1 if boards[place] == boards[place + 1] else None for place in range(len(table))]
    below = _comparisons(table, resampled, "next", next_rows)
    warnings = ["; ".join(warnings_of(runs, name)) for name in table["experiment"]]
    return pd.concat([table, baseline, below], axis=1).assign(warnings=warnings)


def scores(runs: Sequence[RunResult]) -> tuple[pd.DataFrame, list[ImageHits]]:
    """Return the rows of a leaderboard before they are compared, and the mean hits of each over its seeds."""
    table = _mean_over_seeds([row for run in runs for row in rows_of(run)])
    table = table.sort_values(CORRECTED, ignore_index=True, kind="stable")
    hits = [ImageHits.mean([run.hits[name] for run in runs if name in run.hits]) for name in table["experiment"]]
    return table, hits


def warnings_of(runs: Sequence[RunResult], name: str) -> list[str]:
    """Return the warnings of all seeds of the row `name`, without repetitions."""
    return list(dict.fromkeys(text for run in runs if name in run.hits for text in run.metrics["warnings"]))


@dataclass(frozen=True)
class Doubts:
    """Warnings about all rows of a leaderboard, and about some of them by their names."""

    of_all: list[str]
    of_rows: dict[str, list[str]]

    @property
    def of_some(self) -> dict[str, list[str]]:
        """Return the names of the rows that each further warning is about."""
        texts = dict.fromkeys(text for own in self.of_rows.values() for text in own)
        return {text: [name for name, own in self.of_rows.items() if text in own] for text in texts}

    def __len__(self) -> int:
        return len(self.of_all) + len(self.of_some)


def doubts(runs: Sequence[RunResult]) -> Doubts:
    """Return the warnings of all runs; those that all experiments share appear once."""
    of_rows = {name: warnings_of(runs, name) for name in dict.fromkeys(run.experiment for run in runs)}
    shared = [text for text in next(iter(of_rows.values())) if all(text in own for own in of_rows.values())]
    single = {name: [text for text in own if text not in shared] for name, own in of_rows.items()}
    return Doubts(shared, {name: own for name, own in single.items() if own})


def _baselines(table: pd.DataFrame) -> list[int | None]:
    """Return for each row the place of the baseline that validation chose, on the row's own board; None for itself."""
    chosen = _best(table, "baseline")
    if chosen is None:
        return [None] * len(table)
    corrected = ranking_name(table["experiment"][chosen], CORRECTED)
    on_board = {False: chosen, True: next(iter(table.index[table["experiment"] == corrected]), None)}
    return [None if place == on_board[board] else on_board[board] for place, board in enumerate(table[CORRECTED])]


def refuse_mixed_protocols(runs: Sequence[RunResult]) -> None:
    """Refuse runs that were evaluated on different test rows."""
    for first, run in pairwise(runs):
        captions, others = (each.hits[each.experiment].captions for each in (run, first))
        if run.metrics["protocol"] != first.metrics["protocol"] or not np.array_equal(captions, others):
            raise UserError(
                f"{run.folder} and {first.folder} are evaluated on other test rows: evaluate both on the same split, "
                "with the same --split and --captions-rule"
            )


def refuse_repeated(runs: Sequence[RunResult]) -> None:
    """Refuse two runs of one experiment and seed, and seeds of one experiment with different settings."""
    for other, run in combinations(runs, 2):
        if run.experiment == other.experiment and run.seed == other.seed:
            raise UserError(
                f"{run.folder} and {other.folder} are both {quoted(run.experiment)} with seed {run.seed}: leave one out"
            )
        trained = run.experiment == other.experiment and run.metrics["kind"] in TRAINED
        if trained and _settings(run) != _settings(other):
            raise UserError(
                f"{run.folder} and {other.folder} are seeds of {quoted(run.experiment)} with different settings: train "
                "both again, or give one of them another name"
            )


def _settings(run: RunResult) -> dict[str, Any]:
    """Return the settings that decide a run, without its seed."""
    return {key: value for key, value in run.settings.items() if key not in ("seed", "description")}


def _best(table: pd.DataFrame, kind: str) -> int | None:
    """Return the place of the head or baseline that validation chose, None without one."""
    of_kind = table[(table["kind"] == kind) & table["validation_RSUM"].notna()]
    return None if of_kind.empty else int(of_kind["validation_RSUM"].idxmax())


def _comparisons(table: pd.DataFrame, resampled: np.ndarray, title: str, others: Sequence[int | None]) -> pd.DataFrame:
    """Return difference, ends of its interval and outcome of each row against the row at `others`, empty for None."""
    rows: list[tuple[float, float, float, str]] = []
    for place, other in enumerate(others):
        if other is None:
            rows.append((np.nan, np.nan, np.nan, ""))
        else:
            found = compared(table["RSUM"][place] - table["RSUM"][other], resampled[:, place], resampled[:, other])
            rows.append((found.difference, found.low, found.high, found.outcome))
    return pd.DataFrame(rows, columns=[f"{title}_{part}" for part in ("difference", "low", "high", "outcome")])


def fold_board(runs: Iterable[RunResult]) -> pd.DataFrame | None:
    """Return the leaderboard of the 1K protocol, or None if the full split is a single block."""
    rows = [
        _row(run, run.metrics["1k"]) for run in runs if run.metrics["1k"] and run.metrics["protocol"]["images"] > 1000
    ]
    return _mean_over_seeds(rows) if rows else None


def rows_of(run: RunResult) -> list[dict[str, Any]]:
    """Return the rows of a single run: its plain ranking, then its second ones; columns as in `leaderboard`."""
    rows = [_row(run, run.metrics["full"])]
    for key in SECOND_RANKINGS:
        if found := run.metrics[key]:
            named = {"experiment": ranking_name(run.experiment, key), CORRECTED: key == CORRECTED}
            # Only plain rows take part in the choice by validation.
            rows.append(_row(run, found["full"]) | named | {"validation_RSUM": np.nan})
    return rows


def _row(run: RunResult, summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "experiment": run.experiment,
        "kind": run.metrics["kind"],
        CORRECTED: False,
        "seed": run.seed,
        "validation_RSUM": run.metrics["selected"]["RSUM"],
        "parameters": run.facts["parameters"],
        "seconds": run.facts["seconds"],
        "RSUM": summary["RSUM"],
        **{f"{direction}_{name}": summary[direction][name] for direction in DIRECTIONS for name in SHOWN_METRICS},
    }


def _mean_over_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    groups = pd.DataFrame(rows).groupby(["experiment", "kind", CORRECTED], sort=False)
    table = groups.mean().drop(columns="seed")
    table.insert(0, "seeds", groups.size())
    table.insert(2, "RSUM_std", groups["RSUM"].std())
    table["parameters"] = table["parameters"].astype(int)
    return table.reset_index().sort_values("RSUM", ascending=False, ignore_index=True, kind="stable")


def verdict(table: pd.DataFrame) -> Verdict | None:
    """Return the verdict of a leaderboard, None without heads; validation alone chooses what is compared."""
    head, baseline = _best(table, "head"), _best(table, "baseline")
    if head is None:
        return None
    row = table.loc[head]
    if baseline is None:
        return Verdict(row["experiment"], None, None)
    comparison = Comparison(*(float(row[f"baseline_{part}"]) for part in ("difference", "low", "high")))
    return Verdict(row["experiment"], table["experiment"][baseline], comparison)


def chance(captions: np.ndarray) -> dict[str, float]:
    """Return the expected recalls and RSUM of a random order, in percent; captions: (N,) number of each image."""
    own, images_with = np.unique(captions, return_counts=True)
    images, texts = len(captions), int(captions.sum())
    named: dict[str, float] = {}
    for name, k in RECALLS.items():
        drawn = min(k, texts)
        missed = [comb(texts - int(count), drawn) / comb(texts, drawn) for count in own]
        named[f"i2t_{name}"] = 100.0 * (1.0 - float(np.average(missed, weights=images_with)))
        named[f"t2i_{name}"] = 100.0 * min(1.0, k / images)
    return {"RSUM": sum(named.values())} | named
