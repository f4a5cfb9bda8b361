"""Re-ranking against brute force in float64: each query's best k, every candidate scored, ties against the match."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.evaluation import reranking
from frozenalign.evaluation.metrics import Ranks, summarize
from frozenalign.evaluation.projections import Projections
from frozenalign.evaluation.reranking import reranked_ranks
from frozenalign.models.dual_encoder import DualEncoder

IMAGES, CAPTIONS, TOKENS, WIDTH = 25, 75, 2, 8


def new_model() -> DualEncoder:
    sizes = {"hidden_dim": TOKENS * WIDTH, "num_tokens": TOKENS, "num_heads": 2, "num_layers": 1}
    torch.manual_seed(0)
    return DualEncoder({"type": "cross_modal", "output_dim": 5, "rerank_k": 6, **sizes}, 12, 9).eval()


@pytest.fixture
def model() -> DualEncoder:
    """A model whose scorer has opinions."""
    model = new_model()
    nn.init.normal_(model.scorer.compare[-1].weight, std=2.0)
    nn.init.constant_(model.scorer.similarity_scale, 1.5)
    return model


@pytest.fixture
def indifferent(model) -> DualEncoder:
    """A model whose scorer gives every pair the same score."""
    nn.init.zeros_(model.scorer.compare[-1].weight)
    nn.init.zeros_(model.scorer.similarity_scale)
    return model


@pytest.fixture(scope="module")
def projections() -> Projections:
    """Images with one to many captions in no order, some of them far from their image."""
    generator = torch.Generator().manual_seed(0)
    owner = torch.cat([torch.arange(IMAGES), torch.randint(IMAGES, (CAPTIONS - IMAGES,), generator=generator)])
    owner = owner[torch.randperm(CAPTIONS, generator=generator)]
    images = functional.normalize(torch.randn(IMAGES, 5, generator=generator), dim=1)
    texts = images[owner] + 0.6 * torch.randn(CAPTIONS, 5, generator=generator)
    return Projections(images, functional.normalize(texts, dim=1), owner)


@pytest.fixture(scope="module")
def tokens() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(count, TOKENS, WIDTH, generator=generator) for count in (IMAGES, CAPTIONS))


def score(scorer: nn.Module, image: Tensor, text: Tensor, similarity: float) -> float:
    """Score one pair from tokens (tokens, width) in float64, attention written out."""

    def parts(projection: nn.Module, rows: Tensor) -> list[Tensor]:
        normed = functional.layer_norm(rows.double(), (WIDTH,), *(v.double() for v in projection.norm.parameters()))
        weight, bias = (value.double() for value in projection.to_parts.parameters())
        return list((normed @ weight.T + bias).split(WIDTH, dim=1))

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return (torch.softmax(queries @ keys.T / WIDTH**0.5, dim=1) @ values).mean(0)

    image_q, image_k, image_v = parts(scorer.image_parts, image)
    text_q, text_k, text_v = parts(scorer.text_parts, text)
    to_image, to_text = attend(text_q, image_k, image_v), attend(image_q, text_k, text_v)
    x = torch.cat([to_image, to_text, image_v.mean(0) * text_v.mean(0), to_image * to_text])
    norm, first, _, last = scorer.compare
    x = functional.layer_norm(x, x.shape, norm.weight.double(), norm.bias.double())
    x = functional.gelu(first.weight.double() @ x + first.bias.double())
    compared = last.weight.double() @ x + last.bias.double()
    return (compared + scorer.similarity_scale.double() * similarity + scorer.bias.double()).item()


@pytest.fixture
@torch.no_grad()
def scores(model, projections, tokens) -> np.ndarray:
    """The score of every image (rows) with every caption (columns), pair by pair."""
    similarity = (projections.images.double() @ projections.texts.double().T).tolist()
    return np.array(
        [
            [score(model.scorer, image, text, similarity[i][j]) for j, text in enumerate(tokens[1])]
            for i, image in enumerate(tokens[0])
        ]
    )


def brute_force(projections: Projections, scores: np.ndarray, k: int) -> Ranks:
    similarity = (projections.images.double() @ projections.texts.double().T).numpy()
    owner = projections.text_image.numpy()
    t2i = [place_of(image, similarity[:, text], scores[:, text], k) for text, image in enumerate(owner)]
    captions = [place_of(text, similarity[image], scores[image], k) for text, image in enumerate(owner)]
    return Ranks(np.array(t2i), np.array(captions), owner)


def place_of(match: int, similarity: np.ndarray, scores: np.ndarray, k: int) -> int:
    """Sort the first k by their scores, leave the others behind them as they were, and look for the match."""
    dual = np.argsort(-similarity)
    first = dual[:k]
    order = [*first[np.argsort(-scores[first])], *dual[k:]]
    return order.index(match)


def test_every_rank_equals_brute_force_for_any_number_of_candidates(model, projections, tokens, scores):
    dual = projections.ranks()
    for k in (1, 2, 6, 20, 64, 1000):
        found, expected = reranked_ranks(model, projections, *tokens, dual, k), brute_force(projections, scores, k)
        np.testing.assert_array_equal(found.t2i, expected.t2i)
        np.testing.assert_array_equal(found.captions, expected.captions)
        np.testing.assert_array_equal(found.caption_image, expected.caption_image)


def test_the_scorer_does_change_the_order(model, projections, tokens):
    dual = projections.ranks()
    found = reranked_ranks(model, projections, *tokens, dual, 6)
    assert (found.t2i != dual.t2i).mean() > 0.2
    assert (found.captions != dual.captions).mean() > 0.2


@pytest.mark.parametrize("k", [1, 6])
def test_a_match_that_is_not_among_the_candidates_keeps_its_dual_rank(k, model, projections, tokens):
    dual = projections.ranks()
    found = reranked_ranks(model, projections, *tokens, dual, k)
    for before, after in ((dual.t2i, found.t2i), (dual.captions, found.captions)):
        outside = before >= k
        assert 0 < outside.sum() < len(outside)
        assert (after[outside] == before[outside]).all()
        assert (after[~outside] < k).all()


def test_one_candidate_leaves_nothing_to_order(model, projections, tokens):
    dual = projections.ranks()
    found = reranked_ranks(model, projections, *tokens, dual, 1)
    np.testing.assert_array_equal(found.t2i, dual.t2i)
    np.testing.assert_array_equal(found.captions, dual.captions)


def test_an_untrained_scorer_leaves_every_rank_as_it_was(projections, tokens):
    dual = projections.ranks()
    found = reranked_ranks(new_model(), projections, *tokens, dual, 10)
    np.testing.assert_array_equal(found.t2i, dual.t2i)
    np.testing.assert_array_equal(found.captions, dual.captions)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_twin_of_the_match_that_is_no_candidate_stands_before_it_as_well(k, tokens):
    """Twelve images, each there twice: whichever of two equal ones comes among the first k, both are the second."""
    images = functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1).repeat(2, 1)
    projections = Projections(images, images, torch.arange(12))
    dual = projections.ranks()
    assert dual.t2i.tolist() == dual.captions.tolist() == [1] * 12
    found = reranked_ranks(new_model(), projections, tokens[0][:12], tokens[1][:12], dual, k)
    assert found.t2i.tolist() == found.captions.tolist() == [1] * 12


def test_candidates_that_tie_with_the_match_stand_before_it(indifferent, projections, tokens):
    dual, k = projections.ranks(), 6
    found = reranked_ranks(indifferent, projections, *tokens, dual, k)
    np.testing.assert_array_equal(found.t2i, np.where(dual.t2i < k, k - 1, dual.t2i))
    owner = projections.text_image.numpy()
    for image in range(IMAGES):
        own = dual.captions[owner == image]
        rivals = k - (own < k).sum()
        assert found.i2t[image] == (rivals if (own < k).any() else own.min())


def test_captions_of_an_image_that_tie_take_places_of_their_own(indifferent, projections, tokens):
    """As in the dual ranks, no two captions of an image stand at one place."""
    found = reranked_ranks(indifferent, projections, *tokens, projections.ranks(), CAPTIONS)
    for image in range(IMAGES):
        places = found.captions[found.caption_image == image]
        assert len(set(places.tolist())) == len(places)


def test_a_caption_that_stands_twice_does_not_lift_average_precision_over_its_most(model):
    """Two equal captions of one image, both first of all: a perfect retrieval and no more."""
    images = torch.eye(4, 5)
    owner = torch.arange(4).repeat_interleave(2)
    projections = Projections(images, images[owner], owner)
    nn.init.constant_(model.scorer.similarity_scale, 1000.0)
    tokens = torch.randn(4, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))
    ranks = reranked_ranks(model, projections, tokens, tokens[owner], projections.ranks(), 8)
    summary = summarize(ranks)
    assert summary["i2t"]["R@1"] == 100.0
    assert summary["i2t"]["mAP@R"] == 100.0


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_the_number_of_queries_scored_at_once_changes_no_rank(at_once, model, projections, tokens, monkeypatch):
    dual = projections.ranks()
    expected = reranked_ranks(model, projections, *tokens, dual, 6)
    monkeypatch.setattr(reranking, "QUERIES_AT_ONCE", at_once)
    found = reranked_ranks(model, projections, *tokens, dual, 6)
    np.testing.assert_array_equal(found.t2i, expected.t2i)
    np.testing.assert_array_equal(found.captions, expected.captions)


def test_the_dual_ranks_are_left_as_they_were(model, projections, tokens):
    dual = projections.ranks()
    before = dual.t2i.copy(), dual.captions.copy()
    reranked_ranks(model, projections, *tokens, dual, 6)
    np.testing.assert_array_equal(dual.t2i, before[0])
    np.testing.assert_array_equal(dual.captions, before[1])
