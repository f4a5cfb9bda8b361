"""Several positives of a query: exact places, R-Precision and mAP@R against a plain loop, and chance."""

from itertools import permutations

import numpy as np
import pytest
import torch

from frozenalign.data.benchmarks.positives import Positives, reverse
from frozenalign.evaluation.benchmarks import positive_places as places_module
from frozenalign.evaluation.benchmarks.listed_positives import ListedPositives
from frozenalign.evaluation.benchmarks.pairs import NamedPairs
from frozenalign.evaluation.benchmarks.positive_metrics import chance_of, values_by_query
from frozenalign.evaluation.benchmarks.positive_places import Places, positive_places
from frozenalign.evaluation.benchmarks.retrieval import measured_by_pairs, measured_by_positives
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.projections import Projections
from frozenalign.evaluation.uncertainty import mean_intervals
from frozenalign.models.dual_encoder import unit
from frozenalign.system.errors import UserError

IMAGES, CAPTIONS = 30, 3


def plain_order(scores: np.ndarray, positives: set[int]) -> list[int]:
    """Return all candidates, best first; of equal ones, those that are no positive first."""
    return sorted(range(len(scores)), key=lambda item: (-scores[item], item in positives, item))


def plain_metrics(order: list[int], positives: set[int], count: int) -> dict[str, float]:
    """Return the metrics of one query by their definitions, for a list of `count` positives."""
    hits = [item in positives for item in order]
    precisions = [sum(hits[:r]) / r if hits[r - 1] else 0.0 for r in range(1, min(count, len(order)) + 1)]
    found = {f"R@{k}": float(any(hits[:k])) for k in (1, 5, 10)}
    return found | {"R-Precision": sum(hits[:count]) / count, "mAP@R": sum(precisions) / count}


@pytest.fixture
def projections() -> Projections:
    """Related vectors, among which some images and captions are equal, so that they tie."""
    generator = torch.Generator().manual_seed(0)
    owner = torch.arange(IMAGES).repeat_interleave(CAPTIONS)
    images = unit(torch.randn(IMAGES, 4, generator=generator))
    images[7] = images[3]
    texts = unit(images[owner] + 0.5 * torch.randn(len(owner), 4, generator=generator))
    texts[40] = texts[12]
    texts[41] = texts[12]
    return Projections(images, texts, owner)


@pytest.fixture
def positives() -> Positives:
    """Each caption's own image and up to four others; a caption that no file lists is left out."""
    generator = np.random.default_rng(0)
    images = {
        f"c{j}": frozenset({f"i{j // CAPTIONS}", *(f"i{i}" for i in generator.choice(IMAGES, j % 5, replace=False))})
        for j in range(IMAGES * CAPTIONS)
        if j != 5
    }
    return Positives(images, reverse(images))


def pairs_of(projections: Projections) -> NamedPairs:
    ids = (np.array([f"{kind}{n}" for n in range(count)]) for kind, count in (("i", IMAGES), ("c", IMAGES * CAPTIONS)))
    return NamedPairs(projections.text_image.numpy(), *ids, "the metadata", [])


@pytest.mark.parametrize("queries_at_once", [1, 4, 64])
def test_places_are_those_of_a_plain_sort_in_which_ties_count_against_the_positives(projections, queries_at_once):
    generator = np.random.default_rng(1)
    wanted = [set(generator.choice(IMAGES, size, replace=False).tolist()) for size in (1, 2, 5, 9, 30)]
    wanted = {query: wanted[query % 5] | {3, 7} for query in (0, 2, 12, 40, 41, 89)}
    query = np.array([each for each, items in wanted.items() for _ in items])
    item = np.array([each for items in wanted.values() for each in sorted(items)])
    found = places_module._places(queries_at_once, projections.texts, projections.images, query, item)
    scores = (projections.texts @ projections.images.T).numpy()
    expected = []
    for each, items in wanted.items():
        order = plain_order(scores[each], items)
        expected += sorted(order.index(one) for one in items)
    assert found.tolist() == expected
    assert positive_places(projections.texts, projections.images, query, item).tolist() == expected


def test_collapsed_vectors_place_every_positive_last():
    rows = torch.ones(6, 4) / 2
    assert positive_places(rows, rows, np.array([1, 1, 4]), np.array([0, 3, 2])).tolist() == [4, 5, 5]


def test_metrics_are_those_of_a_plain_loop(projections, positives):
    found = measured_by_positives(projections, pairs_of(projections), positives, "a file").metrics
    scores = (projections.images.double() @ projections.texts.double().T).float().numpy()
    values: dict[str, list[float]] = {}
    for direction, listed, table, kinds in (
        ("I2T", positives.captions, scores, "ic"),
        ("T2I", positives.images, scores.T, "ci"),
    ):
        for name, others in listed.items():
            wanted = {int(other.removeprefix(kinds[1])) for other in others}
            order = plain_order(table[int(name.removeprefix(kinds[0]))], wanted)
            for metric, value in plain_metrics(order, wanted, len(wanted)).items():
                values.setdefault(f"{direction} {metric}", []).append(100 * value)
    assert found == pytest.approx({name: np.mean(each) for name, each in values.items()})


def test_with_the_pairs_themselves_the_metrics_are_those_of_the_board(projections):
    pairs = pairs_of(projections)
    own = {f"c{j}": frozenset({f"i{j // CAPTIONS}"}) for j in range(IMAGES * CAPTIONS)}
    found = measured_by_positives(projections, pairs, Positives(own, reverse(own)), "a file").metrics
    board = summarize(projections.ranks())
    for direction in ("i2t", "t2i"):
        for name in ("R@1", "R@5", "R@10"):
            assert found[f"{direction.upper()} {name}"] == pytest.approx(board[direction][name])
    assert found["I2T mAP@R"] == pytest.approx(board["i2t"]["mAP@R"])
    by_pairs = measured_by_pairs(projections, pairs)
    assert by_pairs.metrics["RSUM"] == pytest.approx(board["RSUM"])
    assert by_pairs.chance["T2I R@5"] == pytest.approx(100 * 5 / IMAGES)
    for name, (low, high) in by_pairs.intervals.items():
        assert low <= by_pairs.metrics[name] <= high


def test_positives_that_the_set_lacks_count_only_where_a_benchmark_counts_them(projections):
    listed = {"c0": frozenset({"i0", "absent", "away"})}
    pairs = pairs_of(projections)
    for as_listed, count in ((True, 3), (False, 1)):
        given = Positives(listed, reverse(listed), as_listed)
        found = ListedPositives.of(given, pairs.image_ids, pairs.caption_ids, pairs.caption_image)
        assert found.pairings["t2i"].positives.tolist() == [count]
        assert found.pairings["t2i"].item.tolist() == [0]


def test_a_warning_tells_of_queries_that_are_missing_and_of_captions_without_their_own_image(projections):
    pairs = pairs_of(projections)
    benchmark = Positives({"c0": frozenset({"i0"}), "c9999": frozenset({"i1"})}, {"i0": frozenset({"c0"})}, True)
    found = measured_by_positives(projections, pairs, benchmark, "eccv_caption").warnings
    assert found == [
        "1 of the 2 captions that eccv_caption asks for are not in this set: the numbers are not those of the benchmark"
    ]
    strange = {"c0": frozenset({"i5"})}
    found = measured_by_positives(projections, pairs, Positives(strange, reverse(strange)), "mine.json").warnings
    assert found == ["1 of the 1 captions in mine.json do not list their own image, which counts as wrong"]


def test_ids_that_match_nothing_or_not_clearly_are_refused(projections):
    pairs = pairs_of(projections)
    other = {"77": frozenset({"i0"})}
    with pytest.raises(UserError, match="none of the captions or none of the images that mine"):
        measured_by_positives(projections, pairs, Positives(other, reverse(other)), "mine.json")
    twice = NamedPairs(pairs.caption_image, pairs.image_ids, np.array(["a", "a"]), "meta.json", [])
    with pytest.raises(UserError, match=r"meta\.json: caption_ids has 'a' twice"):
        twice.named_captions()
    with pytest.raises(UserError, match=r"meta\.json has no `caption_ids`"):
        NamedPairs(pairs.caption_image, pairs.image_ids, None, "meta.json", []).named_captions()


@pytest.mark.parametrize(("there", "positives"), [(1, 1), (2, 2), (3, 3), (2, 4)])
def test_chance_is_the_mean_over_all_orders(there, positives):
    total = 6
    own = set(range(there))
    orders = [plain_metrics(list(order), own, positives) for order in permutations(range(total))]
    expected = {name: 100 * np.mean([each[name] for each in orders]) for name in orders[0]}
    query = np.zeros(there, dtype=int)
    places = Places(query, np.arange(there), np.array([positives]), np.array([0]), total)
    assert chance_of(places) == pytest.approx(expected)


def test_a_query_without_any_positive_among_the_candidates_scores_nothing():
    places = Places(np.array([1]), np.array([0]), np.array([2, 1]), np.array([0, 1]), 9)
    found = values_by_query(places)
    assert {name: values.tolist() for name, values in found.items()} == {name: [0.0, 1.0] for name in found}


def test_intervals_resample_images_with_all_their_queries(rng):
    image = np.repeat(np.arange(200), 5)
    own = rng.random(200)
    (low, high), _ = mean_intervals(np.stack([own[image], np.ones(1000)], axis=1), image)
    # Five equal queries of an image say no more than one: the standard error is that of 200 values.
    assert high - low == pytest.approx(2 * 1.96 * own.std() / 200**0.5, rel=0.1)
    assert mean_intervals(np.ones((4, 1)), np.array([7, 7, 9, 1])) == [[1.0, 1.0]]
