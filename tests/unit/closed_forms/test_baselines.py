"""Closed forms: exact moments, planted structure found again, and finite maps from degenerate input."""

import numpy as np
import pytest
import torch
from torch import Tensor

from frozenalign.closed_forms.baselines import cca_by_width
from frozenalign.closed_forms.canonical_directions import canonical_directions
from frozenalign.closed_forms.registry import BASELINES, register_baseline
from frozenalign.data.moments import Moments
from frozenalign.system.errors import UserError


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def related(pairs: int, shared: int, image_dim: int, text_dim: int, generator: torch.Generator):
    """Return shared facts (N, shared) and two noisy linear views of them, (N, image_dim) and (N, text_dim)."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    facts = normal(pairs, shared)
    images = facts @ normal(shared, image_dim) + 0.1 * normal(pairs, image_dim)
    return facts, images, facts @ normal(shared, text_dim) + 0.1 * normal(pairs, text_dim)


def moments_of(images: Tensor, texts: Tensor) -> Moments:
    return Moments.of_rows(images, texts, torch.arange(len(images)))


def plain_cca(moments: Moments):
    (found,) = canonical_directions(moments, [0.0], [0.0])
    return found.correlations, found.image, found.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_moments_are_those_of_the_expanded_pairs(dtype, generator):
    images = (10 + 3 * torch.randn(300, 7, generator=generator)).to(dtype)
    texts = (torch.randn(2500, 1030, generator=generator) - 5).to(dtype)
    text_image = torch.randint(300, (2500,), generator=generator)
    moments = Moments.of_rows(images, texts, text_image)
    x, y = images[text_image].double().numpy(), texts.double().numpy()
    np.testing.assert_allclose(moments.image_mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.text_mean, y.mean(0), rtol=1e-6)
    expected = np.cov(np.hstack([x, y]), rowvar=False, bias=True)
    np.testing.assert_allclose(moments.image_covariance, expected[:7, :7], atol=1e-5)
    np.testing.assert_allclose(moments.text_covariance, expected[7:, 7:], atol=1e-5)
    np.testing.assert_allclose(moments.cross_covariance, expected[:7, 7:], atol=1e-5)
    assert moments.image_covariance.dtype == moments.text_mean.dtype == torch.float64


def test_moments_do_not_depend_on_the_chunks_and_leave_the_rows_alone(generator):
    _, images, texts = related(500, 3, 6, 5, generator)
    before = images.clone(), texts.clone()
    whole = Moments.of([(images, texts)])
    parts = Moments.of(zip(images.split(77), texts.split(77), strict=True))
    for name in vars(whole):
        torch.testing.assert_close(getattr(whole, name), getattr(parts, name), atol=1e-5, rtol=1e-5)
    assert torch.equal(images, before[0])
    assert torch.equal(texts, before[1])


def test_moments_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no pairs"):
        Moments.of([])


def test_correlations_without_regulariser_are_those_of_the_qr_method(generator):
    """Björck and Golub 1973: the singular values of Qxᵀ Qy."""
    _, images, texts = related(400, 4, 9, 6, generator)
    found, *_ = plain_cca(moments_of(images, texts))
    x_basis, y_basis = (np.linalg.qr((m - m.mean(0)).double().numpy())[0] for m in (images, texts))
    expected = np.linalg.svd(x_basis.T @ y_basis, compute_uv=False)
    np.testing.assert_allclose(found, expected, atol=3e-4)


def test_cca_finds_the_planted_directions(generator):
    facts, images, texts = related(2000, 3, 10, 8, generator)
    correlations, *found = plain_cca(moments_of(images, texts))
    assert (correlations[:3] > 0.98).all()
    assert (correlations[3:] < 0.2).all()
    facts = (facts - facts.mean(0)).double()
    for rows, directions in zip((images, texts), found, strict=True):
        variates = (rows - rows.mean(0)).double() @ directions[:3].T
        unexplained = facts - variates @ torch.linalg.lstsq(variates, facts).solution
        assert unexplained.var() < 0.02 * facts.var()


def held_out_correlation(images: Tensor, texts: Tensor, train_texts: Tensor) -> float:
    """Return the mean correlation over the directions of a fit to the first rows, on the true pairs of the others."""
    trained = len(train_texts)
    _, image_directions, text_directions = plain_cca(moments_of(images[:trained], train_texts))
    x, y = images[trained:].double() @ image_directions.T, texts[trained:].double() @ text_directions.T
    return float(np.mean([np.corrcoef(left, right)[0, 1] for left, right in zip(x.T, y.T, strict=True)]))


def test_only_true_pairs_give_directions_that_correlate_on_other_rows(generator):
    _, images, texts = related(5000, 30, 30, 30, generator)
    train_texts = texts[:4000]
    assert held_out_correlation(images, texts, train_texts) > 0.8
    shuffled = train_texts[torch.randperm(4000, generator=generator)]
    assert abs(held_out_correlation(images, texts, shuffled)) < 0.1


@pytest.mark.parametrize("scales", [[6.0, 5, 4, 3, 2, 1], [1.0] * 6], ids=["distinct axes", "arbitrary axes"])
def test_procrustes_recovers_a_rotation_exactly(scales, generator):
    images = torch.randn(500, 6, generator=generator)
    uncorrelated = torch.linalg.qr(images - images.mean(0))[0] * 500**0.5
    images = uncorrelated * torch.tensor(scales) + 7
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    texts = images @ rotation
    *_, widest = BASELINES["procrustes"](moments_of(images, texts))
    assert widest.chosen == {"width": 6}
    torch.testing.assert_close(*widest.pair.project(images, texts), atol=1e-4, rtol=0)
    found = widest.pair.image_map.T @ widest.pair.text_map
    torch.testing.assert_close(found, rotation, atol=1e-4, rtol=0)


def test_ridge_solves_the_normal_equations(generator):
    _, images, texts = related(300, 4, 7, 5, generator)
    x, y = (images - images.mean(0)).double().numpy(), (texts - texts.mean(0)).double().numpy()
    unit = np.trace(x.T @ x) / 7
    for candidate in BASELINES["ridge"](moments_of(images, texts)):
        penalty = candidate.chosen["regularizer"] * unit * np.eye(7)
        expected = np.linalg.solve(x.T @ x + penalty, x.T @ y)
        np.testing.assert_allclose(candidate.pair.image_map.T, expected, atol=1e-4)
        assert torch.equal(candidate.pair.text_map, torch.eye(5))


def test_raw_cosine_leaves_the_embeddings_as_they_are(generator):
    images, texts = torch.randn(20, 4, generator=generator) + 3, torch.randn(20, 4, generator=generator)
    (candidate,) = BASELINES["raw_cosine"](moments_of(images, texts))
    projected = candidate.pair.project(images, texts)
    torch.testing.assert_close(projected[0], images / images.norm(dim=1, keepdim=True))
    torch.testing.assert_close(projected[1], texts / texts.norm(dim=1, keepdim=True))


def test_raw_cosine_refuses_differing_widths(generator):
    _, images, texts = related(20, 2, 4, 3, generator)
    with pytest.raises(UserError, match=r"images have 4 dimensions and texts 3: remove raw_cosine from `baselines`"):
        list(BASELINES["raw_cosine"](moments_of(images, texts)))


def degenerate(kind: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    _, images, texts = related(200, 3, 12, 12, generator)
    if kind == "constant dimensions":
        images[:, 3], texts[:, 5] = 123.456, 0.1
    elif kind == "repeated dimensions":
        images[:, 6:], texts[:, 6:] = images[:, :6], texts[:, :6]
    elif kind == "fewer rows than dimensions":
        images, texts = images[:5], texts[:5]
    elif kind == "one image":
        images = images[:1].expand(200, -1)
    elif kind == "a single pair":
        images, texts = images[:1], texts[:1]
    return images, texts


@pytest.mark.parametrize("name", ["raw_cosine", "ridge", "procrustes", "cca"])
@pytest.mark.parametrize(
    "kind",
    ["constant dimensions", "repeated dimensions", "fewer rows than dimensions", "one image", "a single pair"],
)
def test_degenerate_input_gives_finite_maps(name, kind, generator):
    images, texts = degenerate(kind, generator)
    for candidate in BASELINES[name](moments_of(images, texts)):
        for tensor in (*vars(candidate.pair).values(), *candidate.pair.project(images, texts)):
            assert tensor.isfinite().all()
            assert tensor.dtype == torch.float32


def test_widths_whose_moments_no_memory_holds_are_refused_before_they_are_summed():
    images, texts = torch.zeros(2, 400_000), torch.zeros(2, 300_000)
    with pytest.raises(
        UserError, match=r"400000 image and 300000 text dimensions takes 2960 GB of memory where .*, reduce the dim"
    ):
        moments_of(images, texts)


@pytest.mark.parametrize("name", ["procrustes", "cca"])
def test_no_more_dimensions_are_kept_than_the_narrower_embeddings_have(name, generator):
    _, images, texts = related(100, 3, 9, 7, generator)
    assert max(len(candidate.pair.image_map) for candidate in BASELINES[name](moments_of(images, texts))) == 7


def test_the_cca_of_a_narrower_output_keeps_no_more_dimensions_than_asked_for(generator):
    _, images, texts = related(100, 3, 9, 7, generator)
    found = list(cca_by_width(moments_of(images, texts), [None, 4]))
    assert max(len(candidate.pair.image_map) for width, candidate in found if width == 4) == 4
    assert max(len(candidate.pair.image_map) for width, candidate in found if width is None) == 7


def test_candidates_are_few_differ_and_carry_plain_values(generator):
    _, images, texts = related(100, 3, 24, 24, generator)
    for name in BASELINES:
        chosen = [candidate.chosen for candidate in BASELINES[name](moments_of(images, texts))]
        assert 1 <= len(chosen) <= 25
        assert len({tuple(sorted(values.items())) for values in chosen}) == len(chosen)
        assert all(type(value) in (int, float) for values in chosen for value in values.values())


def test_a_name_is_registered_once():
    assert {"raw_cosine", "ridge", "procrustes", "cca"} <= set(BASELINES)
    with pytest.raises(ValueError, match="'cca' is registered twice"):
        register_baseline("cca")(BASELINES["ridge"])
