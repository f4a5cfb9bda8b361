"""Which encodings align best with which head: one board over all pairs of encodings of one set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from frozenalign.evaluation.uncertainty import ImageHits, compared, interval, resampled_recalls
from frozenalign.reporting.belonging import refuse_other_split
from frozenalign.reporting.encoded_sets import MEASURES, EncodedSet
from frozenalign.reporting.leaderboard import CORRECTED, RunResult, refuse_mixed_protocols, refuse_repeated, scores
from frozenalign.system.errors import UserError

# Variants and controls belong to the report of each pair.
SHOWN = ("head", "baseline", "ensemble")
PARTS = ("difference", "low", "high", "outcome")
PERMUTATIONS = 10_000
# With fewer pairs, even equal orders happen by chance in more than one of twenty cases.
FEWEST_PAIRS = 5


@dataclass(frozen=True)
class EncodingsBoard:
    """Results of several encodings of one set.

    rows: one for each head, baseline or ensemble of each set, means over its seeds, highest test RSUM first. `best`
    marks the row that validation chose among heads and baselines; each other row is compared with it (best_difference,
    best_low, best_high, best_outcome). `best_of_head` marks the set that validation chose for a head,
    `best_of_set` the head, baseline or ensemble that it chose for a set.
    heads: one row for each head with the set that validation chose for it, and the comparison of that with the set that
    is next by validation. Comparisons are paired: all sets have the same test pairs.
    """

    rows: pd.DataFrame
    heads: pd.DataFrame


def encodings_board(sets: Sequence[EncodedSet], runs: Sequence[RunResult]) -> EncodingsBoard:
    """Return the results of all sets; runs that belong to none, or to another split, are refused."""
    refuse_mixed_protocols(runs)
    rows, hits = _all_rows(sets, _runs_of_sets(sets, runs))
    rsums = resampled_recalls(hits).sum((2, 3))
    rows["RSUM_low"], rows["RSUM_high"] = np.array([interval(values) for values in rsums.T]).T
    single = rows[rows["kind"] != "ensemble"]
    best = _chosen(rows if single.empty else single)
    rows["best"] = rows.index == best
    for mark, groups in (("best_of_head", "experiment"), ("best_of_set", "set")):
        rows[mark] = rows.index.isin([_chosen(group) for _, group in rows.groupby(groups)])
    against = [_comparison(rows, rsums, place, best) if place != best else [None] * 4 for place in rows.index]
    rows[[f"best_{part}" for part in PARTS]] = pd.DataFrame(against, index=rows.index, dtype=object)
    heads = pd.DataFrame([_of_head(group, rows, rsums) for _, group in rows.groupby("experiment", sort=False)])
    ordered = [table.sort_values("RSUM", ascending=False, ignore_index=True, kind="stable") for table in (rows, heads)]
    return EncodingsBoard(*ordered)


def _runs_of_sets(sets: Sequence[EncodedSet], runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    found: dict[str, list[RunResult]] = {each.name: [] for each in sets}
    for run in runs:
        name = run.folder.absolute().parents[1].name
        if name not in found:
            raise UserError(f"{run.folder} is a run of none of the sets: add results/{name} to --sets, or leave it out")
        found[name].append(run)
    for each in sets:
        if not found[each.name]:
            raise UserError(f"{each.folder} has no run among --runs: add its runs, or leave the set out")
        refuse_other_split(found[each.name], each.manifest, each.folder / "split" / "manifest.json")
        refuse_repeated(found[each.name])
    return found


def _all_rows(sets: Sequence[EncodedSet], runs: dict[str, list[RunResult]]) -> tuple[pd.DataFrame, list[ImageHits]]:
    """Return the plain rows of all sets with what is known of each set, and the hits of each row."""
    tables, hits = [], []
    for each in sets:
        table, of_rows = scores(runs[each.name])
        kept = table.index[~table[CORRECTED].astype(bool) & table["kind"].isin(SHOWN)]
        about: dict[str, Any] = {"set": each.name, **each.encodings}
        about |= {"image_width": each.manifest["image_dim"], "text_width": each.manifest["text_dim"]}
        about |= {measure: each.similarity[measure] for measure in MEASURES}
        tables.append(table.loc[kept].drop(columns=CORRECTED).assign(**about))
        hits += [of_rows[place] for place in kept]
    return pd.concat(tables, ignore_index=True), hits


def _chosen(rows: pd.DataFrame) -> int:
    """Return the place of the row with the highest validation RSUM; re-ranked results, which have none, are last."""
    return int(rows["validation_RSUM"].fillna(-1.0).idxmax())


def _comparison(rows: pd.DataFrame, rsums: np.ndarray, first: int, second: int) -> list[Any]:
    """Return difference, low, high and outcome of two rows on the same draws (resamples, rows)."""
    difference = float(rows["RSUM"][first] - rows["RSUM"][second])
    found = compared(difference, rsums[:, first], rsums[:, second])
    return [*vars(found).values(), found.outcome]


def _of_head(group: pd.DataFrame, rows: pd.DataFrame, rsums: np.ndarray) -> dict[str, Any]:
    """Return the best set of a head by validation, and its comparison with the next one."""
    order = group["validation_RSUM"].fillna(-1.0).sort_values(ascending=False, kind="stable").index
    best, following = rows.loc[order[0]], list(order[1:2])
    kept = ("experiment", "kind", "images", "texts", "RSUM", "RSUM_low", "RSUM_high", "validation_RSUM")
    found = {name: best[name] for name in kept} | {"lowest": group["RSUM"].min(), "highest": group["RSUM"].max()}
    found |= {"next_images": None, "next_texts": None} | dict.fromkeys(f"next_{part}" for part in PARTS)
    for place in following:
        values = _comparison(rows, rsums, order[0], place)
        found |= {"next_images": rows["images"][place], "next_texts": rows["texts"][place]}
        found |= {f"next_{part}": value for part, value in zip(PARTS, values, strict=True)}
    return found


@dataclass(frozen=True)
class Agreement:
    """How well the similarity of the encoders foretold the order of the pairs.

    pairs: number of pairs. by_head: for each head, Spearman's rank correlation of its test RSUM with each measure, None
    where one of both does not vary. by_chance: what its size exceeds in at most one of twenty random orders.
    """

    pairs: int
    by_head: list[dict[str, Any]]
    by_chance: float


def agreement(rows: pd.DataFrame) -> Agreement | None:
    """Return how the measures of similarity go with the RSUMs of heads that all pairs have; None for too few pairs."""
    pairs = rows["set"].nunique()
    if pairs < FEWEST_PAIRS:
        return None
    found = []
    for name, group in rows.groupby("experiment", sort=False):
        if len(group) == pairs:
            found.append({"experiment": name} | {measure: _spearman(group, measure) for measure in MEASURES})
    return Agreement(pairs, found, _by_chance(pairs))


def _spearman(group: pd.DataFrame, measure: str) -> float | None:
    ranks = [group[column].astype(float).rank().to_numpy() for column in (measure, "RSUM")]
    if any(np.isnan(each).any() or np.ptp(each) == 0 for each in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _by_chance(pairs: int) -> float:
    """Return the 95th percentile of the size of the rank correlation of two random orders."""
    generator = np.random.default_rng(0)
    ranks = np.arange(pairs, dtype=float)
    orders = generator.permuted(np.tile(ranks, (PERMUTATIONS, 1)), axis=1)
    centred = ranks - ranks.mean()
    return float(np.percentile(np.abs(orders @ centred) / (centred @ centred), 95))
