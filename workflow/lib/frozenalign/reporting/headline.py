"""The first screen: which head, by how much, how sure, at what cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from frozenalign.configuration.studies import TUNED
from frozenalign.evaluation.uncertainty import Comparison, ImageHits, compared, resampled_recalls
from frozenalign.plots.costs import COSTS, front_names
from frozenalign.reporting.figures import cost_panels, paid_rows
from frozenalign.reporting.findings import Findings
from frozenalign.reporting.pictures import embedded_figure
from frozenalign.tuning.trial_tables import read_trials

CCA = "cca"


@dataclass(frozen=True)
class Rival:
    """What the chosen head is compared with, and what it is: the runner-up, a closed form.

    spread: the standard deviation of its RSUM over its seeds, NaN with one.
    """

    name: str
    role: str
    seeds: int
    spread: float
    comparison: Comparison


def headline(found: Findings) -> dict[str, Any]:
    """Return the row of the chosen head, its rivals, the seconds of its search, and what recall costs.

    best: None where no head was trained on true pairs.
    """
    best = _row(found, found.verdict.head) if found.verdict else None
    return {
        "best": best,
        "rivals": _rivals(found, found.verdict.head) if found.verdict else [],
        "search_seconds": _search_seconds(found, found.verdict.head) if found.verdict else None,
        "device": found.shown.facts["device_name"],
        "costs": [
            {"title": title, "front": front_names(paid_rows(found), cost), "picture": embedded_figure(panel)}
            for (cost, (title, _)), panel in zip(COSTS.items(), cost_panels(found).values(), strict=True)
        ],
    }


def _rivals(found: Findings, chosen: str) -> list[Rival]:
    """Return the head next on validation, the closed form that validation chose, and the CCA, each once."""
    heads = found.table[(found.table["kind"] == "head") & found.table["validation_RSUM"].notna()]
    others = heads[heads["experiment"] != chosen].nlargest(1, "validation_RSUM")["experiment"].tolist()
    roles = dict.fromkeys(others, "the runner-up")
    if found.verdict.baseline:
        roles[found.verdict.baseline] = "the best closed form"
    if CCA in set(found.table.loc[found.table["kind"] == "baseline", "experiment"]):
        roles.setdefault(CCA, "the CCA")
    comparisons = _compared(found, chosen, list(roles)) if roles else []
    rows = [_row(found, name) for name in roles]
    return [
        Rival(row["experiment"], roles[row["experiment"]], row["seeds"], row["RSUM_std"], comparison)
        for row, comparison in zip(rows, comparisons, strict=True)
    ]


def _compared(found: Findings, chosen: str, names: Sequence[str]) -> list[Comparison]:
    """Compare the test RSUM of one row with those of others, on the draws that the board uses."""
    every = [chosen, *names]
    hits = [ImageHits.mean([run.hits[name] for run in found.runs if name in run.hits]) for name in every]
    own, *others = resampled_recalls(hits).sum((2, 3)).T
    scores = [_row(found, name)["RSUM"] for name in every]
    return [compared(scores[0] - score, own, other) for score, other in zip(scores[1:], others, strict=True)]


def _row(found: Findings, name: str) -> dict[str, Any]:
    return found.table[found.table["experiment"] == name].to_dict("records")[0]


def _search_seconds(found: Findings, chosen: str) -> float | None:
    """Return how long the study of a tuned head computed, None of another head, or where its study is not here."""
    folders = [folder for folder in found.source.studies if f"{TUNED}{folder.name}" == chosen]
    return float(read_trials(folders[0] / "trials.csv")["seconds"].sum()) if folders else None
