"""The one table: every row once, with what narrows it, and a first view that is the leaderboard."""

from pathlib import Path

import pytest

from frozenalign.reporting.board_rows import board_rows, choices
from frozenalign.reporting.findings import Findings, ReportInput
from frozenalign.reporting.leaderboard import RunResult, leaderboard, parts_of
from tests.unit.reporting.test_leaderboard import result

SOURCE = ReportInput("small", Path("data"), Path("data"), Path("manifest.json"), [])


def found(*runs: RunResult) -> Findings:
    return Findings(SOURCE, {}, list(runs), leaderboard(runs))


def with_intervals(run: RunResult) -> RunResult:
    """Add what an evaluation writes for each ranking, by which the rows of a seed are told apart here."""
    run.metrics["intervals"] = {"full": {"RSUM": [run.seed, run.seed + 10]}}
    for key in ("reranked", "hubness_corrected"):
        if run.metrics[key]:
            run.metrics[key]["intervals"] = {"full": {"RSUM": [run.seed + 100, run.seed + 110]}}
    return run


def first_view(rows: list[dict]) -> list[str]:
    hidden = {(each["key"], option) for each in choices(rows) for option, first in each["options"] if not first}
    return [row["name"] for row in rows if not any(row[key] == option for key, option in hidden)]


def test_a_row_is_told_apart_by_its_kind_and_its_ranking():
    rows = board_rows(
        found(
            result("pairs", 290, 300, reranked=295, hubness_corrected=310),
            result("both", 350, 400, kind="ensemble"),
            result("cca", 250, 260, kind="baseline"),
        )
    )
    facets = {row["name"]: (row["kind"], row["ranking"], row["of"]) for row in rows}
    assert facets == {
        "both": ("ensemble", "plain", "both"),
        "pairs, re-ranked": ("head", "re-ranked", "pairs"),
        "pairs": ("head", "plain", "pairs"),
        "cca": ("baseline", "plain", "cca"),
        "pairs, hubness-corrected": ("head", "hubness-corrected", "pairs"),
    }
    assert [each["key"] for each in choices(rows)] == ["kind", "ranking"]
    assert first_view(rows) == ["both", "pairs, re-ranked", "pairs", "cca"]


def test_seeds_have_rows_of_their_own_that_are_not_seen_at_first():
    seeds = [with_intervals(result("a", 300 + seed, 310, seed, hubness_corrected=320)) for seed in (0, 1)]
    rows = board_rows(found(*seeds, result("cca", 250, 260, kind="baseline")))
    assert first_view(rows) == ["a", "cca"]
    of_seeds = {row["name"]: row for row in rows if row["seed"] != "mean"}
    assert list(of_seeds) == [
        "a, seed 0",
        "a, hubness-corrected, seed 0",
        "a, seed 1",
        "a, hubness-corrected, seed 1",
    ]
    assert of_seeds["a, seed 1"]["RSUM"] == 301
    assert (of_seeds["a, seed 1"]["RSUM_low"], of_seeds["a, seed 1"]["RSUM_high"]) == (1, 11)
    assert of_seeds["a, hubness-corrected, seed 1"]["RSUM_low"] == 101
    assert "baseline_outcome" not in of_seeds["a, seed 1"]


def test_blocks_of_1000_images_are_rows_of_the_same_table():
    rows = board_rows(found(result("a", 200, 210, images=5000)))
    assert [(row["name"], row["gallery"]) for row in rows] == [("a", "whole split"), ("a, 1K blocks", "1K blocks")]
    assert first_view(rows) == ["a"]


def test_no_name_stands_twice():
    seeds = [with_intervals(result("a", 300, 310, seed, images=2000, hubness_corrected=320)) for seed in (0, 1)]
    names = [row["name"] for row in board_rows(found(*seeds, result("b", 1, 1, images=2000)))]
    assert len(names) == len(set(names)) == 9


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mlp", ("mlp", "plain")),
        ("mlp, re-ranked", ("mlp", "re-ranked")),
        ("a, b", ("a, b", "plain")),
        ("re-ranked", ("re-ranked", "plain")),
    ],
)
def test_a_name_is_an_experiment_and_a_ranking(name, parts):
    assert parts_of(name) == parts
