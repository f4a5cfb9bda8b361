"""The board: means over seeds, re-ranked rows, the verdict by validation alone, chance; and the page that shows it."""

import json
from pathlib import Path

import numpy as np
import pytest

from frozenalign.evaluation.metrics import SECOND_RANKINGS
from frozenalign.evaluation.uncertainty import ImageHits
from frozenalign.reporting.leaderboard import RunResult, chance, fold_board, leaderboard, verdict
from frozenalign.system.errors import UserError


def result(name: str, rsum: float, val: float, seed: int = 0, kind: str = "head", images: int = 1000, **second):
    """Return a run with the RSUM of its plain retrieval and of its second rankings, reranked or hubness_corrected."""
    recalls = dict.fromkeys(("R@1", "R@5", "R@10", "MedR", "MRR"), rsum / 6)
    full = {"i2t": recalls, "t2i": recalls, "RSUM": rsum}
    metrics = {
        "experiment": name,
        "kind": kind,
        "seed": seed,
        "selected": {"RSUM": val},
        "warnings": [],
        "protocol": {"images": images},
        "full": full,
        "1k": full,
        **dict.fromkeys(SECOND_RANKINGS),
        **{key: {"full": full | {"RSUM": value}} for key, value in second.items()},
    }
    hits = {name: image_hits(rsum, images)}
    hits |= {f"{name}, {SECOND_RANKINGS[key]}": image_hits(value, images) for key, value in second.items()}
    return RunResult(Path("unused"), metrics, {"parameters": 10, "seconds": 2.0 + seed}, {}, hits)


def image_hits(rsum: float, images: int) -> ImageHits:
    """One caption an image; the first images are hits in every recall, as many as give the RSUM."""
    ranks = np.where(np.arange(images) < rsum / 600 * images, 0, 99)
    return ImageHits.of(ranks, ranks, np.arange(images))


def test_rows_are_means_over_seeds_best_first():
    board = leaderboard([result("a", 200, 210), result("b", 300, 290, 0), result("b", 304, 294, 1)])
    assert board["experiment"].tolist() == ["b", "a"]
    best = board.iloc[0]
    assert (best["seeds"], best["RSUM"], best["validation_RSUM"], best["seconds"]) == (2, 302, 292, 2.5)
    assert best["RSUM_std"] == pytest.approx(8**0.5)
    by_theory = 1.96 * 600 * (302 / 600 * (1 - 302 / 600) / 1000) ** 0.5
    assert best["RSUM_high"] - 302 == pytest.approx(by_theory, rel=0.1)
    assert 302 - best["RSUM_low"] == pytest.approx(by_theory, rel=0.1)


def test_a_pair_scorer_has_a_second_row():
    board = leaderboard([result("pairs", 200, 210, reranked=220)])
    assert board["experiment"].tolist() == ["pairs, re-ranked", "pairs"]
    assert board["RSUM"].tolist() == [220, 200]


def test_hubness_corrected_rows_are_a_board_of_their_own_below_the_plain_ones():
    board = leaderboard(
        [
            result("head", 300, 310, hubness_corrected=360),
            result("pairs", 290, 300, reranked=295, hubness_corrected=280),
            result("cca", 250, 260, kind="baseline", hubness_corrected=300),
        ]
    )
    assert board["experiment"].tolist() == [
        "head",
        "pairs, re-ranked",
        "pairs",
        "cca",
        "head, hubness-corrected",
        "cca, hubness-corrected",
        "pairs, hubness-corrected",
    ]
    assert board["hubness_corrected"].tolist() == [False] * 4 + [True] * 3
    rows = board.set_index("experiment")
    assert rows["baseline_difference"].fillna(0).tolist() == [50, 45, 40, 0, 60, 0, -20]
    assert rows["next_difference"].fillna(0).tolist() == [5, 5, 40, 0, 60, 20, 0]


def test_a_hubness_corrected_row_is_never_chosen():
    runs = [
        result("head", 300, 310, hubness_corrected=500),
        result("cca", 250, 260, kind="baseline", hubness_corrected=400),
    ]
    board = leaderboard(runs)
    assert board.loc[board["hubness_corrected"], "validation_RSUM"].isna().all()
    assert (verdict(board).head, verdict(board).baseline, verdict(board).comparison.difference) == ("head", "cca", 50)


def test_an_ensemble_has_a_row_but_is_never_chosen():
    runs = [result("both", 350, 400, kind="ensemble"), result("head", 300, 310), result("cca", 250, 1, kind="baseline")]
    board = leaderboard(runs)
    assert board[["experiment", "kind"]].iloc[0].tolist() == ["both", "ensemble"]
    assert board["baseline_difference"].iloc[0] == 100
    assert verdict(board).head == "head"
    assert verdict(leaderboard(runs[:1])) is None


def test_validation_alone_chooses_whom_the_verdict_compares():
    runs = [
        result("lucky", 400, 200),
        result("chosen", 330, 340, reranked=500),
        result("ridge", 350, 250, kind="baseline"),
        result("cca", 300, 320, kind="baseline"),
    ]
    found = verdict(leaderboard(runs))
    assert (found.head, found.baseline, found.comparison.difference) == ("chosen", "cca", 30.0)
    assert found.comparison.outcome == "better"


def test_rows_are_compared_with_the_baseline_and_with_the_next():
    runs = [
        result("best", 360, 1),
        result("equal", 300, 1),
        result("cca", 300, 2, kind="baseline"),
        result("ridge", 240, 1, kind="baseline"),
    ]
    board = leaderboard(runs).set_index("experiment")
    assert board.loc["best", ["baseline_outcome", "next_outcome"]].tolist() == ["better", "better"]
    assert board.loc["equal", ["baseline_outcome", "next_outcome"]].tolist() == ["not distinguishable"] * 2
    assert board.loc["cca", ["baseline_outcome", "next_outcome"]].tolist() == ["", "better"]
    assert board.loc["ridge", ["baseline_outcome", "next_outcome"]].tolist() == ["worse", ""]
    row = board.loc["best"]
    assert row["baseline_low"] < row["baseline_difference"] == 60 < row["baseline_high"]


def test_a_gain_on_a_few_images_alone_is_not_distinguishable():
    found = verdict(leaderboard([result("head", 300.6, 1), result("cca", 300, 1, kind="baseline")]))
    assert found.comparison.outcome == "not distinguishable"


def test_without_baselines_the_verdict_names_the_head_alone():
    found = verdict(leaderboard([result("head", 300, 1)]))
    assert (found.head, found.baseline, found.comparison) == ("head", None, None)


def test_runs_on_other_test_rows_are_refused():
    with pytest.raises(UserError, match="evaluated on other test rows"):
        leaderboard([result("a", 200, 210), result("b", 200, 210, images=500)])


def test_without_heads_there_is_no_verdict():
    assert verdict(leaderboard([result("cca", 300, 1, kind="baseline")])) is None


def test_the_1k_board_is_left_out_where_it_would_repeat_the_full_one():
    assert fold_board([result("a", 200, 210, images=1000)]) is None
    assert len(fold_board([result("a", 200, 210, images=5000)])) == 1


def test_chance_counts_every_caption_of_an_image():
    found = chance(np.full(1000, 5))
    assert found["t2i_R@10"] == pytest.approx(1.0)
    assert found["i2t_R@1"] == pytest.approx(0.1)
    assert found["i2t_R@10"] == pytest.approx(100 * (1 - (1 - 10 / 5000) ** 5), rel=0.01)
    assert found["RSUM"] == pytest.approx(sum(value for name, value in found.items() if name != "RSUM"))


def test_chance_never_passes_certainty():
    assert max(value for name, value in chance(np.ones(3, int)).items() if name != "RSUM") == 100.0


def test_rows_are_plain_enough_for_json():
    json.dumps(leaderboard([result("a", 200, 210)]).to_dict("records"))


def test_chance_counts_the_captions_that_each_image_really_has(rng):
    """One image has half of all captions: the mean over images of what a random order gives, drawn many times."""
    captions = np.array([30] + [3] * 10)
    owner = np.repeat(np.arange(11), captions)
    ranks = np.argsort(rng.random((20_000, len(owner))), axis=1)
    best = np.stack([ranks[:, owner == image].min(1) for image in range(11)])
    found = chance(captions)
    for k in (1, 5, 10):
        assert found[f"i2t_R@{k}"] == pytest.approx(100 * (best < k).mean(), abs=0.5)
        assert found[f"t2i_R@{k}"] == pytest.approx(100 * k / 11)
