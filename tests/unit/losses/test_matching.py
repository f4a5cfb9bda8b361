"""The pair scorer and the loss that trains it on hard negatives of the batch."""

import math

import pytest
import torch
from torch.nn import functional

from frozenalign.losses.matching import matching_loss
from frozenalign.models.pair_scorer import CrossModalScorer, ProjectedTokens

WIDTH, TOKENS = 6, 3


def tokens(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))


def trained_scorer() -> CrossModalScorer:
    """Return a scorer whose correction is no longer zero."""
    torch.manual_seed(0)
    scorer = CrossModalScorer(WIDTH)
    torch.nn.init.normal_(scorer.compare[-1].weight)
    return scorer


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def scored_similarities(similarity: torch.Tensor, image_index: torch.Tensor) -> list[float]:
    """Return the dual similarity of every pair that a loss scores: matches, then hard texts, then hard images."""
    scored = []
    scorer = CrossModalScorer(WIDTH)
    scorer.register_forward_pre_hook(lambda _, arguments: scored.extend(arguments[2].tolist()))
    matching_loss(scorer, tokens(len(similarity), 0), tokens(len(similarity), 1), similarity, image_index)
    return scored


def scored_pairs(similarity: torch.Tensor, image_index: torch.Tensor) -> list[tuple[int, int]]:
    """Return the (image row, text row) of every pair that a loss scores; similarities must differ from each other."""
    place = {value: divmod(i, len(similarity)) for i, value in enumerate(similarity.flatten().tolist())}
    assert len(place) == similarity.numel()
    return [place[value] for value in scored_similarities(similarity, image_index)]


def distinct(rows: int) -> torch.Tensor:
    """Return a matrix (rows, rows) of distinct numbers from 0 up to 1."""
    return torch.randperm(rows**2, generator=torch.Generator().manual_seed(0)).view(rows, rows) / rows**2


def test_an_untrained_scorer_gives_ten_times_the_dual_similarity():
    torch.manual_seed(0)
    scorer = CrossModalScorer(WIDTH)
    similarity = torch.tensor([0.9, -0.3, 0.0, 0.25])
    scores = scorer(scorer.image_parts(tokens(4, 0)), scorer.text_parts(tokens(4, 1)), similarity)
    assert scores.tolist() == pytest.approx([9.0, -3.0, 0.0, 2.5])


def test_a_trained_scorer_looks_at_the_tokens_of_both():
    scorer = trained_scorer()
    images, texts, similarity = scorer.image_parts(tokens(4, 0)), scorer.text_parts(tokens(4, 1)), torch.zeros(4)
    scores = scorer(images, texts, similarity)
    other_images = scorer(scorer.image_parts(tokens(4, 2)), texts, similarity)
    other_texts = scorer(images, scorer.text_parts(tokens(4, 3)), similarity)
    assert (scores - other_images).abs().min() > 1e-4
    assert (scores - other_texts).abs().min() > 1e-4


def test_candidates_scored_together_get_the_scores_they_get_alone():
    scorer = trained_scorer()
    images, texts = scorer.image_parts(tokens(5, 0)), scorer.text_parts(tokens(7, 1))
    candidates = torch.tensor([[0, 4, 2], [3, 3, 1]])
    queries = torch.tensor([[6, 6, 6], [2, 2, 2]])
    similarity = torch.linspace(-1, 1, 6).view(2, 3)
    together = scorer(images.rows(candidates), texts.rows(queries), similarity)
    assert together.shape == (2, 3)
    for place in ((q, k) for q in range(2) for k in range(3)):
        one, other = candidates[place][None], queries[place][None]
        alone = scorer(images.rows(one), texts.rows(other), similarity[place][None])
        torch.testing.assert_close(together[place], alone[0])


def test_rows_of_projected_tokens_may_be_indexed_in_any_shape():
    parts = ProjectedTokens(tokens(4, 0), tokens(4, 1), tokens(4, 2))
    found = parts.rows(torch.tensor([[3, 1]]))
    assert found.queries.shape == (1, 2, TOKENS, WIDTH)
    assert torch.equal(found.keys[0, 1], parts.keys[1])
    assert torch.equal(found.values[0, 0], parts.values[3])


def test_two_images_leave_no_choice_of_negatives_and_the_loss_can_be_worked_out_by_hand():
    similarity = torch.tensor([[0.8, 0.1], [-0.2, 0.5]])
    value = matching_loss(CrossModalScorer(WIDTH), tokens(2, 0), tokens(2, 1), similarity, torch.tensor([4, 9]))
    matches = softplus(-8.0) + softplus(-5.0)
    hard_texts = softplus(1.0) + softplus(-2.0)
    hard_images = softplus(-2.0) + softplus(1.0)
    assert value.item() == pytest.approx((matches + hard_texts + hard_images) / 6, rel=1e-5)


def test_every_pair_meets_itself_one_other_text_and_one_other_image():
    pairs = scored_pairs(distinct(5), torch.arange(5))
    assert pairs[:5] == [(i, i) for i in range(5)]
    assert [image for image, _ in pairs[5:10]] == list(range(5))
    assert [text for _, text in pairs[10:]] == list(range(5))
    assert all(image != text for image, text in pairs[5:])


def test_a_negative_is_never_of_the_same_image_however_similar():
    image_index = torch.arange(60) % 12
    same = image_index[:, None] == image_index[None, :]
    torch.manual_seed(0)
    negatives = scored_pairs(distinct(60) + 2.0 * same, image_index)[60:]
    assert len(negatives) == 120
    assert not any(same[pair] for pair in negatives)


def test_negatives_are_drawn_by_the_softmax_of_the_similarities():
    rows = torch.arange(1000)
    similarity = torch.full((1000, 1000), -1.0)
    similarity[rows, (rows + 1) % 1000], similarity[rows, (rows + 2) % 1000] = 0.30, 0.25
    torch.manual_seed(0)
    scored = torch.tensor(scored_similarities(similarity, rows))
    more, less = math.exp(0.30 / 0.07), math.exp(0.25 / 0.07)
    for hard in (scored[1000:2000], scored[2000:]):
        assert (hard > 0.2).all()
        assert (hard > 0.27).float().mean().item() == pytest.approx(more / (more + less), abs=0.05)


def test_a_batch_of_one_image_has_no_negatives_and_changes_no_gradient():
    dual = tokens(4, 0).mean(1).requires_grad_()
    similarity = functional.normalize(dual, dim=1) @ functional.normalize(dual, dim=1).T
    value = matching_loss(CrossModalScorer(WIDTH), tokens(4, 0), tokens(4, 1), similarity, torch.full((4,), 2))
    (dual.sum() + value).backward()
    assert value.item() == 0.0
    assert (dual.grad == 1).all()


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    scorer = CrossModalScorer(WIDTH)
    images = tokens(16, 0)
    texts = images + 0.1 * tokens(16, 1)
    similarity, index = torch.zeros(16, 16), torch.arange(16)
    optimizer = torch.optim.Adam(scorer.parameters(), 3e-2)
    values = []
    for _ in range(40):
        value = matching_loss(scorer, images, texts, similarity, index)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[0] == pytest.approx(math.log(2), rel=1e-5)
    assert sum(values[-10:]) / 10 < 0.6 * values[0]
