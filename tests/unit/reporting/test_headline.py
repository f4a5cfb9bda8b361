"""The first screen: validation chooses who is compared, the draws are the board's, a search is part of the cost."""

from dataclasses import replace

import pytest

from frozenalign.reporting.findings import Findings
from frozenalign.reporting.headline import headline
from frozenalign.reporting.leaderboard import RunResult, leaderboard
from tests.unit.reporting.test_board_rows import SOURCE
from tests.unit.reporting.test_leaderboard import result

RUNS = [
    result("lucky", 400, 200),
    result("chosen", 330, 340, reranked=500, hubness_corrected=510),
    result("second", 320, 335, 0),
    result("second", 324, 335, 1),
    result("both", 410, 400, kind="ensemble"),
    result("ridge", 300, 320, kind="baseline"),
    result("cca", 350, 250, kind="baseline"),
]


def first_screen(runs: list[RunResult], **source) -> dict:
    named = [replace(run, facts=run.facts | {"device_name": "a device"}) for run in runs]
    return headline(Findings(replace(SOURCE, **source), {}, named, leaderboard(named)))


def test_the_chosen_head_meets_the_next_on_validation_the_best_closed_form_and_the_cca():
    found = first_screen(RUNS)
    assert found["best"]["experiment"] == "chosen"
    assert [(rival.name, rival.role) for rival in found["rivals"]] == [
        ("second", "the runner-up"),
        ("ridge", "the best closed form"),
        ("cca", "the CCA"),
    ]
    assert [rival.comparison.difference for rival in found["rivals"]] == [8.0, 30.0, -20.0]
    assert [rival.comparison.outcome for rival in found["rivals"]] == ["better", "better", "worse"]
    second = found["rivals"][0]
    assert (second.seeds, second.spread) == (2, pytest.approx(8**0.5))


def test_the_comparison_with_the_closed_form_is_that_of_the_board():
    found = first_screen(RUNS)
    row = leaderboard(RUNS).set_index("experiment").loc["chosen"]
    comparison = found["rivals"][1].comparison
    assert (comparison.low, comparison.high) == pytest.approx((row["baseline_low"], row["baseline_high"]))


def test_the_cca_counts_once_where_it_is_the_best_closed_form():
    found = first_screen([result("a", 300, 310), result("cca", 250, 260, kind="baseline")])
    assert [(rival.name, rival.role) for rival in found["rivals"]] == [("cca", "the best closed form")]


def test_a_head_alone_has_no_rivals_and_without_heads_nothing_is_chosen():
    assert first_screen([result("a", 300, 310)])["rivals"] == []
    found = first_screen([result("cca", 300, 310, kind="baseline")])
    assert (found["best"], found["rivals"]) == (None, [])
    assert len(found["costs"]) == 2


def test_the_cost_of_a_tuned_head_has_its_search(tmp_path):
    study = tmp_path / "quick"
    study.mkdir()
    (study / "trials.csv").write_text(
        "number,state,value,epochs,seconds,reason\n0,COMPLETE,1.0,1,20.5,\n1,PRUNED,1.0,1,4.5,\n"
    )
    tuned = [result("tuned-quick", 300, 310), result("mlp", 250, 260)]
    assert first_screen(tuned, studies=[study])["search_seconds"] == 25.0
    assert first_screen(tuned)["search_seconds"] is None
    assert first_screen([result("mlp", 250, 260)], studies=[study])["search_seconds"] is None
