"""The ablation table: each variant against its base, on means over seeds and the same test images."""

from pathlib import Path

import numpy as np
import pytest

from frozenalign.evaluation.uncertainty import ImageHits
from frozenalign.reporting.ablation import ablation
from frozenalign.reporting.leaderboard import RunResult, leaderboard, verdict
from frozenalign.system.errors import UserError

SETTINGS = {"model": {"type": "clip", "skip": "cca"}, "loss": {"temperature": 0.07}, "training": {"batch_size": 512}}
IMAGES = 1000


def run(name: str, rsum: float, val: float, seed: int = 0, changes: dict | None = None, images: int = IMAGES):
    """One caption an image; the first images are hits in every recall, as many as give the RSUM."""
    recalls = dict.fromkeys(("R@1", "R@5", "R@10", "MedR", "MRR"), rsum / 6)
    metrics = {
        "experiment": name,
        "kind": "variant" if changes else "head",
        "seed": seed,
        "selected": {"RSUM": val},
        "warnings": [],
        "protocol": {"images": images},
        "full": {"i2t": recalls, "t2i": recalls, "RSUM": rsum},
        "reranked": None,
        "hubness_corrected": None,
    }
    ranks = np.where(np.arange(images) < rsum / 600 * images, 0, 99)
    hits = {name: ImageHits.of(ranks, ranks, np.arange(images))}
    settings = SETTINGS | ({"base": name.split("-")[0], "changes": changes} if changes else {})
    return RunResult(Path(name), metrics, {"parameters": 10, "seconds": 1.0}, settings, hits)


NO_SKIP = {"model.skip": "none"}


def test_a_row_holds_means_over_seeds_and_the_difference_to_the_base():
    runs = [run("clip", 300, 310, 0), run("clip", 306, 312, 1)]
    runs += [run("clip-no_skip", 240, 250, 0, NO_SKIP), run("clip-no_skip", 246, 252, 1, NO_SKIP)]
    (row,) = ablation(runs).to_dict("records")
    assert (row["base"], row["experiment"], row["seeds"]) == ("clip", "clip-no_skip", 2)
    assert (row["RSUM"], row["validation_RSUM"]) == (243, 251)
    assert row["RSUM_std"] == pytest.approx(18**0.5)
    assert (row["difference"], row["validation_difference"]) == (-60, -60)
    assert row["low"] < -60 < row["high"] < 0
    assert row["outcome"] == "worse"


def test_the_interval_is_of_the_difference_on_the_same_images():
    """60 of 600 is a tenth of the images: the others are hits of both or of neither and add nothing."""
    (row,) = ablation([run("clip", 300, 1), run("clip-x", 360, 1, changes=NO_SKIP)]).to_dict("records")
    assert row["high"] - row["difference"] == pytest.approx(1.96 * 600 * (0.1 * 0.9 / IMAGES) ** 0.5, rel=0.1)
    assert row["outcome"] == "better"


def test_a_difference_on_a_few_images_is_not_distinguishable():
    (row,) = ablation([run("clip", 300, 1), run("clip-x", 300.6, 1, changes=NO_SKIP)]).to_dict("records")
    assert row["outcome"] == "not distinguishable"


def test_what_changes_is_said_with_what_the_base_has():
    changes = {"model.skip": "none", "model.use_bn": True, "training.batch_size": 256}
    (row,) = ablation([run("clip", 300, 1), run("clip-x", 300, 1, changes=changes)]).to_dict("records")
    assert row["changes"] == "model.skip: cca → none, model.use_bn: true, training.batch_size: 512 → 256"


def test_with_one_seed_there_is_no_deviation():
    (row,) = ablation([run("clip", 300, 1), run("clip-x", 300, 1, changes=NO_SKIP)]).to_dict("records")
    assert np.isnan(row["RSUM_std"])


def test_every_variant_has_a_row_against_its_own_base():
    runs = [run("clip", 300, 1), run("mlp", 200, 1)]
    runs += [run("clip-a", 310, 1, changes=NO_SKIP), run("mlp-a", 310, 1, changes=NO_SKIP)]
    table = ablation(runs)
    assert table[["experiment", "base", "difference"]].to_numpy().tolist() == [
        ["clip-a", "clip", 10],
        ["mlp-a", "mlp", 110],
    ]


def test_without_variants_the_table_is_empty():
    assert ablation([run("clip", 300, 1)]).empty


def test_a_variant_without_its_base_is_refused():
    with pytest.raises(UserError, match=r"clip-a is a variant of 'clip', of which there is no run"):
        ablation([run("mlp", 300, 1), run("clip-a", 300, 1, changes=NO_SKIP)])


def test_a_variant_on_other_test_rows_is_refused():
    with pytest.raises(UserError, match="evaluated on other test rows"):
        ablation([run("clip", 300, 1), run("clip-a", 300, 1, changes=NO_SKIP, images=500)])


def test_a_variant_stands_in_the_table_of_results_but_is_never_chosen():
    board = leaderboard([run("clip", 300, 1), run("clip-a", 400, 2, changes=NO_SKIP)])
    assert board["experiment"].tolist() == ["clip-a", "clip"]
    assert verdict(board).head == "clip"
