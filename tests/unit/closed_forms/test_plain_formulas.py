"""Maps and choices of the closed forms are those of the plain formulas in float64, which take whole matrices."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from frozenalign.closed_forms import baselines
from frozenalign.closed_forms.canonical_directions import canonical_directions
from frozenalign.closed_forms.canonical_maps import choose_canonical_maps
from frozenalign.closed_forms.choice import choose_maps
from frozenalign.closed_forms.decompositions import cholesky, leading_axes
from frozenalign.closed_forms.registry import BASELINES
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import ResidentPairs
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.models.dual_encoder import unit

WIDTHS = [(12, 40), (40, 12), (24, 24)]


def related_pairs(image_dim: int, text_dim: int) -> tuple[ResidentPairs, ResidentPairs]:
    """Return 300 training and 200 validation images with two captions each, hard enough that regularisers matter."""
    generator = torch.Generator().manual_seed(image_dim)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    owner = torch.arange(1000) // 2
    facts = normal(500, 10)
    images = facts @ normal(10, image_dim) + 2 * normal(500, image_dim) + 1
    texts = (facts[owner] + normal(1000, 10)) @ normal(10, text_dim) + 3 * normal(1000, text_dim) - 2
    return (
        ResidentPairs(images[:300], texts[:600], owner[:600]),
        ResidentPairs(images[300:], texts[600:], owner[600:] - 300),
    )


@pytest.fixture(params=WIDTHS, ids=str)
def pairs(request) -> tuple[ResidentPairs, ResidentPairs]:
    return related_pairs(*request.param)


def moments_of(pairs: ResidentPairs) -> Moments:
    return Moments.of_rows(pairs.images, pairs.texts, pairs.text_image)


def whitening(covariance: np.ndarray, regularizer: float) -> np.ndarray:
    """Return the symmetric (covariance + regularizer · mean eigenvalue)^(-1/2)."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors / np.sqrt(values + regularizer * values.mean()) @ vectors.T


def plain_ridge(image: np.ndarray, text: np.ndarray, cross: np.ndarray, _: int):
    for regularizer in baselines.RIDGE_REGULARIZERS:
        penalty = regularizer * np.trace(image) / len(image) * np.eye(len(image))
        yield {"regularizer": regularizer}, np.linalg.solve(image + penalty, cross).T, np.eye(len(text))


def plain_procrustes(image: np.ndarray, text: np.ndarray, cross: np.ndarray, most: int):
    axes = [np.linalg.eigh(each)[1][:, ::-1] for each in (image, text)]
    for width in sorted({max(1, most // part) for part in baselines.PROCRUSTES_PARTS}):
        image_axes, text_axes = (each[:, :width] for each in axes)
        left, _, right = np.linalg.svd(image_axes.T @ cross @ text_axes)
        yield {"width": width}, (left @ right).T @ image_axes.T, text_axes.T


def plain_cca(image: np.ndarray, text: np.ndarray, cross: np.ndarray, most: int):
    for image_regularizer, text_regularizer in product(baselines.IMAGE_REGULARIZERS, baselines.TEXT_REGULARIZERS):
        whitenings = whitening(image, image_regularizer), whitening(text, text_regularizer)
        left, correlations, right = np.linalg.svd(whitenings[0] @ cross @ whitenings[1], full_matrices=False)
        for power, part in baselines.CORRELATION_WEIGHTINGS:
            width = max(1, most // part)
            weights = correlations[:width, None] ** power
            chosen = {"image_regularizer": image_regularizer, "text_regularizer": text_regularizer}
            maps = weights * (left.T @ whitenings[0])[:width], weights * (right @ whitenings[1])[:width]
            yield chosen | {"power": power, "width": width}, *maps


PLAIN = {"ridge": plain_ridge, "procrustes": plain_procrustes, "cca": plain_cca}


def plain_candidates(name: str, moments: Moments, output_dim: int | None = None):
    """Yield hyperparameters and maps of a baseline, image (K, D_image) and text (K, D_text), from whole matrices."""
    covariances = (moments.image_covariance, moments.text_covariance, moments.cross_covariance)
    widest = min(moments.cross_covariance.shape)
    yield from PLAIN[name](*(each.numpy() for each in covariances), min(widest, output_dim or widest))


def plain_choice(name: str, moments: Moments, val: ResidentPairs, output_dim: int | None = None) -> tuple[dict, float]:
    best, best_rsum = {}, -1.0
    centred = (val.images - moments.image_mean).numpy(), (val.texts - moments.text_mean).numpy()
    for chosen, *maps in plain_candidates(name, moments, output_dim):
        projections = [unit(torch.from_numpy(x @ rows.T)) for x, rows in zip(centred, maps, strict=True)]
        rsum = summarize(retrieval_ranks(*projections, val.text_image))["RSUM"]
        if rsum > best_rsum:
            best, best_rsum = chosen, rsum
    return best, best_rsum


@pytest.mark.parametrize("name", PLAIN)
def test_maps_give_the_scores_of_the_plain_formulas(name, pairs):
    train, val = pairs
    moments = moments_of(train)
    centred = (val.images - moments.image_mean).double(), (val.texts - moments.text_mean).double()
    candidates = list(BASELINES[name](moments))
    expected = list(plain_candidates(name, moments))
    assert [candidate.chosen for candidate in candidates] == [chosen for chosen, *_ in expected]
    for candidate, (_, *maps) in zip(candidates, expected, strict=True):
        images, texts = candidate.pair.project(val.images, val.texts)
        plain = [x @ torch.from_numpy(rows.copy()).T for x, rows in zip(centred, maps, strict=True)]
        plain_images, plain_texts = (rows / rows.norm(dim=1, keepdim=True) for rows in plain)
        torch.testing.assert_close((images @ texts.T).double(), plain_images @ plain_texts.T, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_chosen_is_what_the_plain_formulas_choose(name, pairs):
    train, val = pairs
    moments = moments_of(train)
    found = choose_maps(name, moments, val)
    chosen, rsum = plain_choice(name, moments, val)
    assert found.candidate.chosen == chosen
    assert found.rsum == pytest.approx(rsum, abs=1e-6)
    assert 20 < rsum < 580


def test_maps_for_narrower_outputs_are_chosen_as_well(pairs):
    train, val = pairs
    moments = moments_of(train)
    for output_dim, found in choose_canonical_maps(moments, val, [2, 8]).items():
        assert (found.candidate.chosen, found.rsum) == plain_choice("cca", moments, val, output_dim)
        assert len(found.candidate.pair.image_map) == found.candidate.chosen["width"]


def test_weighted_directions_of_tiny_correlations_are_those_of_the_whole_decomposition():
    """Correlations fall from 1 to 1e-12: squaring the matrix would lose those below 1e-8."""
    generator = torch.Generator().manual_seed(0)
    image_axes, text_axes = (
        torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0] for width in (12, 40)
    )
    planted = torch.logspace(0, -12, 12, dtype=torch.float64)
    zeros = torch.zeros(12), torch.zeros(40)
    cross = image_axes * planted @ text_axes[:12]
    moments = Moments(*zeros, torch.eye(12).double(), torch.eye(40).double(), cross)
    (found,) = canonical_directions(moments, [0.0], [0.0])
    torch.testing.assert_close(found.correlations, planted, rtol=1e-3, atol=1e-15)
    weights = planted.sqrt()[:, None]
    for rows, axes in ((found.image, image_axes.T), (found.text, text_axes[:12])):
        signs = (rows * axes).sum(1, keepdim=True).sign()
        torch.testing.assert_close(signs * weights * rows, weights * axes, atol=1e-9, rtol=0)


def test_a_covariance_is_what_it_was_after_each_decomposition(generator):
    """Of more dimensions than are mirrored at once."""
    rows = torch.randn(800, 1100, generator=generator)
    covariance = moments_of(ResidentPairs(rows, rows, torch.arange(800))).text_covariance
    before = covariance.clone()
    with cholesky(covariance, 0.1) as factor:
        lower = torch.from_numpy(np.tril(factor.lower))
        regularised = before + 0.1 * before.trace() / 1100 * torch.eye(1100, dtype=torch.float64)
        torch.testing.assert_close(lower @ lower.T, regularised, atol=1e-9, rtol=0)
        assert not torch.equal(covariance, before)
    assert torch.equal(covariance, before)
    axes = leading_axes(covariance, 50)
    assert torch.equal(covariance, before)
    values = torch.linalg.eigvalsh(before).flip(0)[:50]
    torch.testing.assert_close(axes.T @ before @ axes, values.diag(), atol=1e-9, rtol=0)


def test_a_covariance_is_what_it_was_after_a_decomposition_that_failed():
    covariance = -torch.eye(3, dtype=torch.float64) + 2
    before = covariance.clone()
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"), cholesky(covariance, 0.0):
        pass
    assert torch.equal(covariance, before)


def test_sums_of_both_modalities_are_symmetric_to_the_last_bit(generator):
    """Decompositions work on one triangle and restore it from the other."""
    images, texts = torch.randn(300, 600, generator=generator), torch.randn(300, 1100, generator=generator)
    moments = moments_of(ResidentPairs(images, texts, torch.arange(300)))
    for covariance in (moments.image_covariance, moments.text_covariance):
        assert torch.equal(covariance, covariance.T)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
