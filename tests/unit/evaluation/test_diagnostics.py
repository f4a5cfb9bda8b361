"""Diagnostics: each number on a case worked out by hand or counted in float64, and the whole as plain numbers."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.data.pairs import PairFiles
from frozenalign.evaluation import diagnostics as module
from frozenalign.evaluation.diagnostics import (
    alignment,
    diagnostics,
    effective_rank,
    hubness,
    modality_gap,
    recall_by_caption_length,
    skewness,
    uniformity,
)
from frozenalign.evaluation.hubness import choose_correction
from frozenalign.evaluation.projections import project_files
from frozenalign.evaluation.retrieval import Evaluation, Retrieval, evaluate
from frozenalign.models.dual_encoder import DualEncoder
from tests.nearest_by_sorting import occurrences


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def directions(rows: int, dimensions: int, generator: torch.Generator) -> Tensor:
    return functional.normalize(torch.randn(rows, dimensions, generator=generator), dim=1)


def test_the_modality_gap_is_the_distance_between_the_means():
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]])
    assert modality_gap(images, texts) == pytest.approx(np.hypot(0.5, 0.5 + 1 / 3))


def test_modalities_that_share_their_centre_have_no_gap():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert modality_gap(rows, rows.flip(0)) == 0.0


def test_alignment_is_the_mean_squared_distance_of_a_caption_and_its_own_image():
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0]])
    assert alignment(images, texts, torch.tensor([1, 1, 1])) == pytest.approx((0 + 2 + 4) / 3)
    assert alignment(images, texts, torch.tensor([1, 0, 0])) == pytest.approx((0 + 0 + 2) / 3)


def brute_force_uniformity(rows: Tensor) -> float:
    rows = rows.double().numpy()
    pairs = [np.exp(-2 * ((rows[i] - rows[j]) ** 2).sum()) for i in range(len(rows)) for j in range(i)]
    return float(np.log(np.mean(pairs)))


def test_uniformity_of_two_opposite_rows_is_minus_eight():
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8.0)


def test_uniformity_counts_every_pair_of_different_rows_and_no_row_with_itself(generator):
    rows = directions(40, 6, generator)
    assert uniformity(rows) == pytest.approx(brute_force_uniformity(rows), abs=1e-5)


def test_rows_in_one_point_have_uniformity_zero_and_a_single_row_has_none():
    assert uniformity(torch.full((5, 4), 0.5)) == pytest.approx(0.0, abs=1e-6)
    assert uniformity(torch.tensor([[1.0, 0.0]])) is None


def test_uniformity_of_many_rows_is_that_of_a_sample_which_the_seed_draws(generator, monkeypatch):
    monkeypatch.setattr(module, "UNIFORMITY_ROWS", 200)
    rows = directions(600, 6, generator)
    assert uniformity(rows) == uniformity(rows) != uniformity(rows, seed=1)
    assert uniformity(rows) == pytest.approx(brute_force_uniformity(rows), abs=0.05)


def test_skewness_is_the_third_standardised_moment():
    assert skewness(torch.tensor([0, 0, 0, 4])) == pytest.approx(6 / 3**1.5)
    assert skewness(torch.tensor([0, 4, 4, 4])) == pytest.approx(-6 / 3**1.5)
    assert skewness(torch.tensor([3, 3, 3])) == 0.0


def test_hubness_is_the_skewness_of_how_often_a_candidate_is_among_the_best(generator):
    queries, gallery = directions(80, 5, generator), directions(30, 5, generator)
    best = np.argsort(-(queries.double() @ gallery.double().T).numpy(), axis=1)[:, :10]
    counts = np.array([(best == candidate).sum() for candidate in range(30)])
    expected = np.mean((counts - counts.mean()) ** 3) / counts.std() ** 3
    assert hubness(occurrences(queries, gallery)) == pytest.approx(expected)


def test_one_candidate_that_answers_every_query_is_a_hub():
    hub = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    others = torch.eye(4)[1:]
    queries = functional.normalize(3 * hub + others, dim=1)
    assert hubness(occurrences(queries, torch.cat([hub, others]), k=1)) == pytest.approx(6 / 3**1.5)


def test_a_gallery_no_larger_than_the_list_has_no_hubs(generator):
    assert hubness(occurrences(directions(20, 4, generator), directions(10, 4, generator))) == 0.0


def test_the_effective_rank_of_equal_directions_is_their_number():
    axes = torch.eye(6)[:3]
    assert effective_rank(torch.cat([axes, -axes])) == pytest.approx(3.0)


def test_the_effective_rank_is_the_entropy_of_the_centred_singular_values(generator, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 16)
    rows = torch.randn(50, 8, generator=generator) * torch.arange(1.0, 9.0) + 2.0
    values = np.linalg.svd((rows.double() - rows.double().mean(0)).numpy(), compute_uv=False)
    shares = values / values.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_fewer_rows_than_dimensions_span_no_more_than_the_rows(generator):
    rows = directions(4, 32, generator)
    values = np.linalg.svd((rows.double() - rows.double().mean(0)).numpy(), compute_uv=False)[:3]
    shares = values / values.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_equal_rows_have_effective_rank_zero(count, generator):
    assert effective_rank(directions(1, 16, generator).repeat(count, 1)) == 0.0


def captions_of(*words: int) -> list[str]:
    return [" ".join(["word"] * count) for count in words]


def test_recall_by_length_has_a_bin_for_each_quarter_of_the_captions():
    t2i = np.array([0, 0, 0, 4, 9, 10, 3, 20])
    assert recall_by_caption_length(t2i, captions_of(3, 4, 5, 6, 7, 8, 9, 30)) == [
        {"words": [3, 4], "captions": 2, "R@1": 100.0, "R@5": 100.0, "R@10": 100.0},
        {"words": [5, 6], "captions": 2, "R@1": 50.0, "R@5": 100.0, "R@10": 100.0},
        {"words": [7, 8], "captions": 2, "R@1": 0.0, "R@5": 0.0, "R@10": 50.0},
        {"words": [9, 30], "captions": 2, "R@1": 0.0, "R@5": 50.0, "R@10": 50.0},
    ]


def test_captions_of_one_length_share_a_bin():
    found = recall_by_caption_length(np.zeros(9, dtype=int), captions_of(5, 5, 5, 5, 5, 5, 5, 5, 6))
    assert [(bin["words"], bin["captions"]) for bin in found] == [([5, 5], 8), ([6, 6], 1)]


@pytest.fixture
def files(data_dir, split_dir) -> PairFiles:
    names = [data_dir / f"train2017_{modality}_embeddings.pt" for modality in ("image", "text")]
    return PairFiles.open(*names, split_dir / "test.npz")


@pytest.fixture
def evaluation(files) -> Evaluation:
    torch.manual_seed(0)
    model = DualEncoder({"type": "linear", "output_dim": 6}, 12, 9).eval()
    cpu = torch.device("cpu")
    projections = project_files(model, files, cpu)
    retrieval = Retrieval.of(model, files, cpu, choose_correction(projections, projections))
    return evaluate(retrieval, retrieval.counts(), "test", "all")


def test_the_diagnostics_of_a_split_are_plain_numbers_and_the_same_every_time(evaluation):
    found = diagnostics(evaluation, evaluation.projections, 0.25, [f"caption {i}" for i in range(30)])
    assert list(found) == [
        "modality_gap",
        "alignment",
        "uniformity",
        "hubness",
        "effective_rank",
        "encoder_cka",
        "recall_by_caption_length",
    ]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert diagnostics(evaluation, evaluation.projections, 0.25, [f"caption {i}" for i in range(30)]) == found
    assert found["encoder_cka"] == 0.25


def test_hubs_are_images_for_captions_and_captions_for_images(evaluation):
    found = diagnostics(evaluation, evaluation.projections, None, None)["hubness"]
    images, texts = evaluation.projections.images, evaluation.projections.texts
    assert found == {"t2i": hubness(occurrences(texts, images)), "i2t": hubness(occurrences(images, texts))}


def test_without_captions_there_is_no_recall_by_their_length(evaluation):
    assert diagnostics(evaluation, evaluation.projections, None, None)["recall_by_caption_length"] is None
