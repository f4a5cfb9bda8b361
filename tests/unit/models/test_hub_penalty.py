"""The penalty for hubs within a head's vectors: what their cosines are, where prototypes start, what it needs."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from frozenalign.configuration.experiments import experiment_from
from frozenalign.data.pairs import ResidentPairs, Statistics
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.models.dual_encoder import DualEncoder, unit
from frozenalign.models.hub_penalty import CARRIER
from frozenalign.models.model_file import load_heads, save_heads
from frozenalign.system.errors import UserError
from frozenalign.training.data import TrainingData
from frozenalign.training.fit import start
from frozenalign.training.starts import place_prototypes
from frozenalign.training.steps import Fit

TEMPERATURE = 0.1


def model_of(prototypes: int, output_dim: int = 8, **changes) -> DualEncoder:
    section = {"type": "linear", "output_dim": output_dim, "hub_prototypes": prototypes, "hub_temperature": TEMPERATURE}
    document = {"model": section | changes, "loss": {"type": "infonce"}}
    return DualEncoder(experiment_from(document, "test").model, 12, 9).eval().requires_grad_(False)


@pytest.fixture
def pairs() -> ResidentPairs:
    """40 images with two captions each."""
    generator = torch.Generator().manual_seed(3)
    images, texts = torch.randn(40, 12, generator=generator), torch.randn(80, 9, generator=generator)
    return ResidentPairs(images, texts, torch.arange(80) // 2)


def plain_closeness(vector: np.ndarray, prototypes: np.ndarray) -> float:
    """Return T log mean exp(similarity / T), term by term in float64."""
    return TEMPERATURE * math.log(np.mean([math.exp(vector @ each / TEMPERATURE) for each in prototypes]))


def test_without_the_penalty_vectors_are_those_of_the_tower_within(pairs):
    model = model_of(prototypes=7)
    place_prototypes(model, pairs)
    vectors = model.encode_images(pairs.images)
    within = unit(model.image_tower.tower(model.image_statistics(pairs.images)))
    torch.testing.assert_close(model.without_hub_penalty(vectors), within)
    plain = model_of(prototypes=0)
    vectors = plain.encode_images(pairs.images)
    assert plain.without_hub_penalty(vectors) is vectors


def test_products_are_similarities_from_which_both_penalties_are_subtracted(pairs):
    torch.manual_seed(0)
    model = model_of(prototypes=7)
    place_prototypes(model, pairs)
    towers, rows = (model.image_tower, model.text_tower), (pairs.images, pairs.texts)
    images, texts = (tower(each) for tower, each in zip(towers, rows, strict=True))
    inner = [unit(tower.tower(each)).double().numpy() for tower, each in zip(towers, rows, strict=True)]
    penalties = []
    for tower, vectors in zip(towers, inner, strict=True):
        prototypes = tower.prototypes.double().numpy()
        closeness = np.array([plain_closeness(vector, prototypes) for vector in vectors])
        penalties.append(closeness - tower.offset.item())
    expected = inner[0] @ inner[1].T - penalties[0][:, None] - penalties[1][None, :]
    np.testing.assert_allclose((images @ texts.T).numpy(), expected, atol=1e-5)
    lengths = np.sqrt(1 + CARRIER**2 + (penalties[0] / CARRIER) ** 2)
    np.testing.assert_allclose(images.norm(dim=1).numpy(), lengths, rtol=1e-5)


def test_prototypes_start_as_vectors_of_the_other_modality_and_penalties_are_zero_in_the_mean(pairs):
    model = model_of(prototypes=5)
    place_prototypes(model, pairs)
    chosen = [0, 19, 39, 59, 79]
    image_vectors = unit(model.image_tower.tower(pairs.images[[each // 2 for each in chosen]]))
    text_vectors = unit(model.text_tower.tower(pairs.texts[chosen]))
    torch.testing.assert_close(model.image_tower.prototypes, text_vectors)
    torch.testing.assert_close(model.text_tower.prototypes, image_vectors)
    for tower, vectors in ((model.image_tower, image_vectors), (model.text_tower, text_vectors)):
        torch.testing.assert_close(tower.closeness(vectors).mean(), tower.offset)


def test_fewer_pairs_than_prototypes_are_taken_several_times(pairs):
    model = model_of(prototypes=500)
    place_prototypes(model, pairs)
    assert len(torch.unique(model.image_tower.prototypes.round(decimals=4), dim=0)) == 80


def test_hubs_answer_fewer_queries():
    """Images that lean towards the mean of all texts are found instead of the right ones."""
    generator = torch.Generator().manual_seed(0)
    shared, noise = (torch.randn(200, 8, generator=generator) for _ in range(2))
    towards_all = torch.eye(8)[0]
    texts = shared + 0.5 * noise + 2 * towards_all
    noise, lean = torch.randn(200, 8, generator=generator), torch.rand(200, 1, generator=generator)
    images = shared + 0.5 * noise + lean * towards_all
    owner = torch.arange(200)
    model = model_of(prototypes=200, output_dim=10)
    towers = model.image_tower, model.text_tower
    for tower in towers:
        tower.tower.weight.copy_(torch.eye(8, tower.tower.in_features))
        tower.tower.bias.zero_()
    images, texts = functional.pad(images, (0, 4)), functional.pad(texts, (0, 1))
    place_prototypes(model, ResidentPairs(images, texts, owner))
    plain = [unit(tower.tower(rows)) for tower, rows in zip(towers, (images, texts), strict=True)]
    corrected = model.encode_images(images), model.encode_texts(texts)
    before, after = (summarize(retrieval_ranks(*each, owner))["RSUM"] for each in (plain, corrected))
    assert after > before + 20


def test_a_head_with_the_penalty_is_saved_whole(pairs, tmp_path):
    model = model_of(prototypes=7)
    place_prototypes(model, pairs)
    save_heads(tmp_path / "model.pt", model, {})
    again, _ = load_heads(tmp_path / "model.pt")
    found = again.encode_images(pairs.images)
    assert found.shape == (40, 8)
    assert torch.equal(found, model.encode_images(pairs.images))


def started(pairs: ResidentPairs, **model) -> Fit:
    """Return a training of a model with six prototypes before its first step."""
    document = {
        "model": model | {"output_dim": 8, "hub_prototypes": 6},
        "loss": {"type": "infonce"},
        "training": {"batch_size": 16, "num_epochs": 1},
    }
    statistics = [Statistics(torch.zeros(width), torch.ones(width)) for width in (12, 9)]
    return start(experiment_from(document, "test"), TrainingData(pairs, pairs, *statistics), seed=0)


def test_a_training_learns_prototypes_that_start_from_its_pairs(pairs):
    state = started(pairs, type="cross_modal", hidden_dim=8, num_tokens=2, num_heads=2, skip="cca")
    tower = state.model.image_tower
    assert any(tower.prototypes is value for value in state.optimizer.parameters)
    torch.testing.assert_close(tower.prototypes.norm(dim=1), torch.ones(6))
    output, tokens = tower.with_tokens(pairs.images)
    assert tokens.shape[:2] == (40, 2)
    torch.testing.assert_close(output, tower(pairs.images))


@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_prototypes_move_at_a_multiple_of_the_learning_rate(pairs, rate):
    state = started(pairs, type="linear", init="random", hub_rate=rate)
    towers = state.model.image_tower, state.model.text_tower
    before = [parameter.detach().clone() for parameter in state.optimizer.parameters]
    for parameter in state.optimizer.parameters:
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.weight_decay = 0.0
    state.optimizer.step(0.001)
    prototypes = [tower.prototypes for tower in towers]
    for parameter, old in zip(state.optimizer.parameters, before, strict=True):
        expected = rate if any(parameter is each for each in prototypes) else 1.0
        # Adam's first step is the learning rate, whatever the gradient.
        torch.testing.assert_close(old - parameter, torch.full_like(old, 0.001 * expected), rtol=1e-3, atol=1e-6)


def test_the_penalty_needs_dimensions_beside_its_own():
    with pytest.raises(UserError, match=r"model.output_dim: found 2; allowed with `hub_prototypes`: more than 2"):
        model_of(prototypes=4, output_dim=2)
