"""Finished runs as rows of a table, and the verdict: which head validation chose, how far above a baseline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from frozenalign.configuration.result_files import read_ranks, read_result
from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS, SECOND_RANKINGS
from frozenalign.evaluation.uncertainty import Comparison, ImageHits, compared, interval, resampled_recalls
from frozenalign.system.errors import UserError, quoted

SHOWN_METRICS = (*RECALLS, "MedR", "MRR")
CORRECTED = "hubness_corrected"
# Kinds whose settings say what was trained.
TRAINED = ("head", "variant", "control")


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
        """Return the name of the experiment, ensemble or baseline."""
        return self.metrics["experiment"]

    @property
    def seed(self) -> int:
        """Return the seed."""
        return self.metrics["seed"]

    @property
    def is_head(self) -> bool:
        """Say whether this is a trained head, not a baseline or an ensemble."""
        return self.metrics["kind"] not in ("baseline", "ensemble")

    @property
    def is_variant(self) -> bool:
        """Say whether this is an experiment with some keys changed, which stands against its base alone."""
        return self.metrics["kind"] == "variant"


@dataclass(frozen=True)
class Verdict:
    """The head and the baseline with the highest validation RSUM, and the test RSUM of one above the other."""

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
    return RunResult(
        folder,
        metrics,
        facts,
        settings,
        _hits(metrics, folder / "evaluation_results" / "ranks.npz"),
    )


def _hits(metrics: Mapping[str, Any], path: Path) -> dict[str, ImageHits]:
    experiment, protocol = metrics["experiment"], metrics["protocol"]
    second = [key for key in SECOND_RANKINGS if metrics[key]]
    ranks = read_ranks(path, protocol["images"], protocol["captions"], second)
    owner = ranks["caption_image"]
    hits = {experiment: ImageHits.of(ranks["i2t"], ranks["t2i"], owner)}
    for key in second:
        hits[ranking_name(experiment, key)] = ImageHits.of(ranks[f"{key}_i2t"], ranks[f"{key}_t2i"], owner)
    return hits


def ranking_name(experiment: str, key: str) -> str:
    """Return the name of a further row of an experiment, whose metrics stand under `key` in metrics.json."""
    return f"{experiment}, {SECOND_RANKINGS[key]}"


def leaderboard(runs: Iterable[RunResult]) -> pd.DataFrame:
    """Return one row for each experiment, means over its seeds, highest test RSUM first, and one for each variant.

    A head with a pair scorer has a row `NAME, re-ranked`. The rows `NAME, hubness-corrected` stand below all others, a
    board of their own. RSUM_low and RSUM_high resample the test images. Each row is compared on the same draws with the
    baseline that validation chose and with the row below it, both of its own board.
    """
    runs = list(runs)
    refuse_mixed_protocols(runs)
    refuse_repeated(runs)
    table = _mean_over_seeds([row for run in runs for row in _rows(run)])
    table = table.sort_values(CORRECTED, ignore_index=True, kind="stable")
    hits = [ImageHits.mean([run.hits[name] for run in runs if name in run.hits]) for name in table["experiment"]]
    resampled = resampled_recalls(hits).sum((2, 3))
    table["RSUM_low"], table["RSUM_high"] = np.array([interval(values) for values in resampled.T]).T
    return pd.concat(
        [
            table,
            _comparisons(table, resampled, "baseline", _baselines(table)),
            _comparisons(table, resampled, "next", _below(table)),
            pd.DataFrame({"warnings": ["; ".join(warnings_of(runs, name)) for name in table["experiment"]]}),
        ],
        axis=1,
    )


def warnings_of(runs: Sequence[RunResult], name: str) -> list[str]:
    """Return the warnings of all seeds of the row `name`, each once."""
    return list(dict.fromkeys(text for run in runs if name in run.hits for text in run.metrics["warnings"]))


def _baselines(table: pd.DataFrame) -> list[int | None]:
    """Return for each row the place of the baseline that validation chose, on the row's own board; None for itself."""
    chosen = _best(table, "baseline")
    if chosen is None:
        return [None] * len(table)
    names = table["experiment"].tolist()
    corrected = ranking_name(names[chosen], CORRECTED)
    on_board = {False: chosen, True: names.index(corrected) if corrected in names else None}
    found = [on_board[board] for board in table[CORRECTED]]
    return [None if place == baseline else baseline for place, baseline in enumerate(found)]


def _below(table: pd.DataFrame) -> list[int | None]:
    """Return for each row the place of the next one, None where its board ends."""
    boards = [*table[CORRECTED], None]
    return [place + 1 if boards[place] == boards[place + 1] else None for place in range(len(table))]


def refuse_mixed_protocols(runs: Sequence[RunResult]) -> None:
    """Refuse runs that were evaluated on different test rows: their results cannot be compared."""
    for first, run in pairwise(runs):
        captions, others = (each.hits[each.experiment].captions for each in (run, first))
        if run.metrics["protocol"] != first.metrics["protocol"] or not np.array_equal(captions, others):
            raise UserError(
                f"{run.folder} and {first.folder} are evaluated on other test rows: evaluate both on the same split, "
                "with the same --split and --captions-rule"
            )


def refuse_repeated(runs: Sequence[RunResult]) -> None:
    """Refuse two runs of one experiment and seed, or seeds with different settings: their mean is of no experiment."""
    seen: dict[tuple[str, int], RunResult] = {}
    first: dict[str, RunResult] = {}
    for run in runs:
        other = seen.setdefault((run.experiment, run.seed), run)
        if other is not run:
            raise UserError(
                f"{run.folder} and {other.folder} are both {quoted(run.experiment)} with seed {run.seed}: leave one out"
            )
        same = first.setdefault(run.experiment, run)
        if run.metrics["kind"] in TRAINED and _settings(run) != _settings(same):
            raise UserError(
                f"{run.folder} and {same.folder} are seeds of {quoted(run.experiment)} with different settings: train "
                "both again, or give one of them another name"
            )


def _settings(run: RunResult) -> dict[str, Any]:
    """Return what decides a run besides its seed."""
    return {key: value for key, value in run.settings.items() if key not in ("seed", "description")}


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
    rows = [row]
    for key in SECOND_RANKINGS:
        if found := run.metrics[key]:
            named = {"experiment": ranking_name(run.experiment, key), CORRECTED: key == CORRECTED}
            # Only a plain row takes part in the choice by validation.
            rows.append(row | named | {"validation_RSUM": np.nan} | _recalls(found["full"]))
    return rows


def _described(run: RunResult) -> dict[str, Any]:
    return {
        "experiment": run.experiment,
        "kind": run.metrics["kind"],
        CORRECTED: False,
        "seed": run.seed,
        "validation_RSUM": run.metrics["selected"]["RSUM"],
        "parameters": run.facts["parameters"],
        "seconds": run.facts["seconds"],
    }


def _recalls(summary: Mapping[str, Any]) -> dict[str, float]:
    named = {f"{direction}_{name}": summary[direction][name] for direction in DIRECTIONS for name in SHOWN_METRICS}
    return {"RSUM": summary["RSUM"]} | named


def _mean_over_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    groups = pd.DataFrame(rows).groupby(["experiment", "kind", CORRECTED], sort=False)
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


def chance(captions: np.ndarray) -> dict[str, float]:
    """Return the expected recalls and RSUM of a random order, in percent; captions: (N,) how many each image has."""
    own, images_with = np.unique(captions, return_counts=True)
    images, texts = len(captions), int(captions.sum())
    named: dict[str, float] = {}
    for name in RECALLS:
        k = min(int(name.removeprefix("R@")), texts)
        missed = [comb(texts - int(count), k) / comb(texts, k) for count in own]
        named[f"i2t_{name}"] = 100.0 * (1.0 - float(np.average(missed, weights=images_with)))
        named[f"t2i_{name}"] = 100.0 * min(1.0, int(name.removeprefix("R@")) / images)
    return {"RSUM": sum(named.values())} | named
