"""Metrics: every number from ranks that can be followed by hand, and intervals that resample whole images."""

import numpy as np
import pytest
import torch

from frozenalign.evaluation import metrics
from frozenalign.evaluation.metrics import Ranks, mean_of_folds, register_metric, summarize
from frozenalign.evaluation.ranks import retrieval_ranks

# Three images with three, two and one captions.
HAND_MADE = Ranks(
    t2i=np.array([0, 1, 4, 5, 9, 10]),
    captions=np.array([0, 2, 7, 3, 4, 12]),
    caption_image=np.array([0, 0, 0, 1, 1, 2]),
)


@pytest.mark.parametrize(
    ("direction", "metric", "expected"),
    [
        ("t2i", "R@1", 100 * 1 / 6),
        ("t2i", "R@5", 100 * 3 / 6),
        ("t2i", "R@10", 100 * 5 / 6),
        ("t2i", "MedR", 5),
        ("t2i", "MeanR", 29 / 6 + 1),
        ("t2i", "MRR", 100 * (1 + 1 / 2 + 1 / 5 + 1 / 6 + 1 / 10 + 1 / 11) / 6),
        ("i2t", "R@1", 100 * 1 / 3),
        ("i2t", "R@5", 100 * 2 / 3),
        ("i2t", "R@10", 100 * 2 / 3),
        ("i2t", "MedR", 4),
        ("i2t", "MeanR", 6),
        ("i2t", "MRR", 100 * (1 + 1 / 4 + 1 / 13) / 3),
        ("i2t", "mAP@R", 100 * ((1 + 2 / 3) / 3 + 0 + 0) / 3),
    ],
)
def test_a_metric_of_hand_made_ranks(direction, metric, expected):
    assert summarize(HAND_MADE)[direction][metric] == pytest.approx(expected)


def test_rsum_adds_the_six_recalls():
    assert summarize(HAND_MADE)["RSUM"] == pytest.approx(100 * (1 / 6 + 3 / 6 + 5 / 6 + 1 / 3 + 2 / 3 + 2 / 3))


def test_average_precision_is_of_images_only():
    summary = summarize(HAND_MADE)
    assert list(summary) == ["i2t", "t2i", "RSUM"]
    assert list(summary["i2t"]) == ["R@1", "R@5", "R@10", "MedR", "MeanR", "MRR", "mAP@R"]
    assert list(summary["t2i"]) == ["R@1", "R@5", "R@10", "MedR", "MeanR", "MRR"]


def test_an_image_ranks_by_its_best_caption_wherever_that_stands():
    shuffled = np.array([4, 1, 5, 0, 3, 2])
    ranks = Ranks(*(values[shuffled] for values in (HAND_MADE.t2i, HAND_MADE.captions, HAND_MADE.caption_image)))
    assert ranks.i2t.tolist() == HAND_MADE.i2t.tolist() == [0, 3, 12]
    assert summarize(ranks)["i2t"] == pytest.approx(summarize(HAND_MADE)["i2t"])


@pytest.mark.parametrize(("ranks", "median"), [([0], 1), ([0, 1], 1), ([0, 3], 2), ([2, 2, 9], 3), ([1, 4, 7, 8], 6)])
def test_the_median_is_rounded_down_and_then_counted_from_one(ranks, median):
    ranks = np.array(ranks)
    assert summarize(Ranks(ranks, ranks, np.arange(len(ranks))))["t2i"]["MedR"] == median


def test_a_perfect_retrieval_has_the_best_value_of_every_metric():
    owner = np.array([0, 0, 0, 1, 1, 2])
    summary = summarize(Ranks(np.zeros(6, int), np.array([0, 1, 2, 0, 1, 0]), owner))
    shares = {"R@1": 100.0, "R@5": 100.0, "R@10": 100.0, "MedR": 1.0, "MeanR": 1.0, "MRR": 100.0}
    assert summary == {"i2t": shares | {"mAP@R": 100.0}, "t2i": shares, "RSUM": 600.0}


def test_a_small_score_matrix_all_the_way():
    """Rows are images, columns captions; captions 0 and 1 are of image 0, captions 2 and 3 of image 1."""
    scores = torch.tensor([[0.9, 0.3, 0.8, 0.1], [0.2, 0.6, 0.7, 0.4]])
    summary = summarize(retrieval_ranks(torch.eye(2), scores.T.contiguous(), torch.tensor([0, 0, 1, 1])))
    assert summary["t2i"]["R@1"] == 50.0
    assert summary["t2i"]["MeanR"] == 1.5
    assert summary["i2t"]["R@1"] == 100.0
    assert summary["i2t"]["mAP@R"] == pytest.approx(100 * (1 / 2 + 1 / 2) / 2)


def test_folds_are_averaged_metric_by_metric():
    folds = [
        {"i2t": {"R@1": 10.0, "MedR": 3.0}, "t2i": {"R@1": 20.0}, "RSUM": 100.0},
        {"i2t": {"R@1": 30.0, "MedR": 4.0}, "t2i": {"R@1": 50.0}, "RSUM": 250.0},
    ]
    assert mean_of_folds(folds) == {
        "folds": 2,
        "i2t": {"R@1": 20.0, "MedR": 3.5},
        "t2i": {"R@1": 35.0},
        "RSUM": 175.0,
    }


def test_one_fold_is_its_own_mean():
    assert mean_of_folds([summarize(HAND_MADE)]) == {"folds": 1} | summarize(HAND_MADE)


@pytest.fixture
def registry(monkeypatch) -> None:
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))


def test_a_registered_metric_stands_in_every_summary_of_its_directions(registry):
    @register_metric("R@3", directions=("t2i",))
    def recall_at_3(ranks: Ranks, queries: np.ndarray) -> float:
        return metrics.recall(queries, 3)

    summary = summarize(HAND_MADE)
    assert summary["t2i"]["R@3"] == pytest.approx(100 * 2 / 6)
    assert "R@3" not in summary["i2t"]


def test_a_name_is_registered_once(registry):
    with pytest.raises(ValueError, match="'MRR' is registered twice"):
        register_metric("MRR")(metrics.median_rank)
