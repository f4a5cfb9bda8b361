"""Bootstrap intervals of recalls, clustered by image, and comparisons of runs on the same draws."""

import time

import numpy as np
import pytest

from frozenalign.evaluation.metrics import Ranks, summarize
from frozenalign.evaluation.uncertainty import ImageHits, compared, recall_intervals, resampled_recalls


def hits(ranks: Ranks) -> ImageHits:
    return ImageHits.of(ranks.i2t, ranks.t2i, ranks.caption_image)


def random_ranks(images: int, captions: int, rng: np.random.Generator) -> Ranks:
    """Every image has a caption; the other captions belong to random images. Ranks are low for some images only."""
    owner = np.concatenate([np.arange(images), rng.integers(images, size=captions - images)])
    difficulty = rng.integers(1, 30, size=images)[owner]
    return Ranks(rng.integers(difficulty), rng.integers(difficulty), owner)


def one_resample(ranks: Ranks, k: int, rng: np.random.Generator) -> tuple[float, float]:
    """Draw images with replacement, take all captions of each draw along, and count."""
    images = rng.integers(len(ranks.i2t), size=len(ranks.i2t))
    taken = np.concatenate([np.flatnonzero(ranks.caption_image == image) for image in images])
    return 100 * (ranks.i2t[images] < k).mean(), 100 * (ranks.t2i[taken] < k).mean()


@pytest.mark.parametrize("k", [1, 5, 10])
def test_intervals_equal_those_of_a_plain_resampling_of_images(k, rng):
    ranks = random_ranks(60, 240, rng)
    found = recall_intervals(hits(ranks), resamples=4000)
    draws = np.array([one_resample(ranks, k, rng) for _ in range(1000)])
    for direction, values in zip(("i2t", "t2i"), draws.T, strict=True):
        np.testing.assert_allclose(found[direction][f"R@{k}"], np.percentile(values, [2.5, 97.5]), atol=2.0)


def test_captions_that_agree_make_an_interval_no_narrower_than_their_images(rng):
    """Five captions an image that are all hits or all misses tell as much as one."""
    found = rng.random(400) < 0.3
    many, one = np.where(np.repeat(found, 5), 0, 99), np.where(found, 0, 99)
    five = recall_intervals(hits(Ranks(many, many, np.arange(2000) // 5)))["t2i"]["R@1"]
    single = recall_intervals(hits(Ranks(one, one, np.arange(400))))["t2i"]["R@1"]
    assert five == pytest.approx(single)
    by_theory = 2 * 1.96 * 100 * np.sqrt(0.3 * 0.7 / 400)
    assert five[1] - five[0] == pytest.approx(by_theory, rel=0.12)


def test_intervals_hold_the_metric_itself_and_follow_the_seed(rng):
    ranks = random_ranks(80, 300, rng)
    summary, intervals = summarize(ranks), recall_intervals(hits(ranks))
    for direction in ("i2t", "t2i"):
        assert list(intervals[direction]) == ["R@1", "R@5", "R@10"]
        for name, (low, high) in intervals[direction].items():
            assert 0 <= low < summary[direction][name] < high <= 100
    assert intervals["RSUM"][0] < summary["RSUM"] < intervals["RSUM"][1]
    assert intervals == recall_intervals(hits(ranks))
    assert intervals != recall_intervals(hits(ranks), seed=1)


def test_the_interval_of_rsum_is_of_the_sum_not_a_sum_of_intervals(rng):
    ranks = random_ranks(80, 300, rng)
    intervals = recall_intervals(hits(ranks))
    widths = [high - low for direction in ("i2t", "t2i") for low, high in intervals[direction].values()]
    assert max(widths) < intervals["RSUM"][1] - intervals["RSUM"][0] < sum(widths)


def test_without_a_miss_there_is_no_uncertainty():
    intervals = recall_intervals(hits(Ranks(np.zeros(30, int), np.arange(30) % 3, np.arange(30) // 3)))
    assert intervals["i2t"] == intervals["t2i"] == {"R@1": [100, 100], "R@5": [100, 100], "R@10": [100, 100]}
    assert intervals["RSUM"] == [600, 600]


def rsums(*runs: Ranks) -> np.ndarray:
    return resampled_recalls([hits(ranks) for ranks in runs]).sum((2, 3))


def test_a_paired_comparison_equals_a_plain_resampling_of_the_difference(rng):
    first, second = random_ranks(60, 240, rng), random_ranks(60, 240, rng)
    second = Ranks(second.t2i, second.captions, first.caption_image)
    resampled = rsums(first, second)
    found = compared(summarize(first)["RSUM"] - summarize(second)["RSUM"], resampled[:, 0], resampled[:, 1])
    differences = []
    for _ in range(2000):
        images = rng.integers(60, size=60)
        taken = np.concatenate([np.flatnonzero(first.caption_image == image) for image in images])
        values = [
            sum(100 * (ranks.i2t[images] < k).mean() + 100 * (ranks.t2i[taken] < k).mean() for k in (1, 5, 10))
            for ranks in (first, second)
        ]
        differences.append(values[0] - values[1])
    low, high = np.percentile(differences, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=4.0)
    assert found.high == pytest.approx(high, abs=4.0)
    assert found.low < found.difference < found.high


def test_a_gain_on_a_few_images_is_seen_though_the_intervals_overlap(rng):
    worse = random_ranks(500, 2500, rng)
    gain = rng.random(500)[worse.caption_image] < 0.2
    better = Ranks(np.maximum(worse.t2i - gain, 0), np.maximum(worse.captions - gain, 0), worse.caption_image)
    resampled = rsums(better, worse)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    assert low[0] < high[1]
    difference = summarize(better)["RSUM"] - summarize(worse)["RSUM"]
    assert compared(difference, resampled[:, 0], resampled[:, 1]).outcome == "better"
    assert compared(-difference, resampled[:, 1], resampled[:, 0]).outcome == "worse"


def test_equal_runs_and_runs_of_one_quality_are_not_distinguishable(rng):
    owner = np.arange(2000) // 5
    first, second = (Ranks(rng.integers(30, size=2000), rng.integers(30, size=2000), owner) for _ in range(2))
    for one, other in ((first, first), (first, second)):
        resampled = rsums(one, other)
        difference = summarize(one)["RSUM"] - summarize(other)["RSUM"]
        assert compared(difference, resampled[:, 0], resampled[:, 1]).outcome == "not distinguishable"


def test_an_interval_of_no_difference_misses_zero_about_once_in_twenty(rng):
    owner = np.arange(500) // 5
    missed = 0
    for _ in range(200):
        runs = [Ranks(rng.integers(30, size=500), rng.integers(30, size=500), owner) for _ in range(2)]
        resampled = resampled_recalls([hits(ranks) for ranks in runs], resamples=400).sum((2, 3))
        missed += compared(0.0, resampled[:, 0], resampled[:, 1]).outcome != "not distinguishable"
    assert 2 <= missed <= 24


def test_the_mean_over_seeds_is_the_mean_of_their_recalls(rng):
    runs = [random_ranks(60, 240, np.random.default_rng(1)) for _ in range(2)]
    runs[1] = Ranks(rng.integers(30, size=240), rng.integers(30, size=240), runs[0].caption_image)
    each = resampled_recalls([hits(ranks) for ranks in runs], resamples=50)
    mean = resampled_recalls([ImageHits.mean([hits(ranks) for ranks in runs])], resamples=50)
    np.testing.assert_allclose(mean[:, 0], each.mean(1))


def test_other_test_images_cannot_be_compared(rng):
    runs = [hits(random_ranks(60, 240, rng)), hits(random_ranks(60, 240, rng))]
    with pytest.raises(ValueError, match="different test images"):
        resampled_recalls(runs)


def test_ten_thousand_resamples_of_five_thousand_images_take_seconds(rng):
    ranks = [Ranks(rng.integers(30, size=25000), rng.integers(30, size=25000), np.arange(25000) // 5) for _ in range(2)]
    began = time.perf_counter()
    assert resampled_recalls([hits(each) for each in ranks], resamples=10_000).shape == (10_000, 2, 2, 3)
    assert time.perf_counter() - began < 10
