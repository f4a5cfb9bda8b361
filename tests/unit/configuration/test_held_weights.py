"""The memory that jobs ask for, for weights, against the weights of the model itself."""

import pytest
import torch

from frozenalign.configuration.experiments import experiment_from
from frozenalign.configuration.held_weights import COPIES_OF_BUFFERS, COPIES_OF_WEIGHTS, held_numbers
from frozenalign.configuration.registrations import heads
from frozenalign.models.dual_encoder import DualEncoder

COCO = 768, 4096
# Biases, norms and the means of the rows, which are not counted.
SMALL_CHANGE = 200_000
CHANGES = ({}, {"whitening": "pca"}, {"output_dim": 32})


def model_section(head: str, changes: dict) -> dict:
    loss = "blip" if head == "blip" else "siglip"
    return experiment_from({"model": {"type": head, **changes}, "loss": {"type": loss}}, "here").model


def numbers_of(model: dict, widths: tuple[int, int]) -> int:
    """Return the numbers of all copies of the weights and buffers of the towers."""
    with torch.device("meta"):
        built = DualEncoder(model, *widths)
    weights, buffers = (sum(each.numel() for each in of) for of in (built.parameters(), built.buffers()))
    return COPIES_OF_WEIGHTS * weights + COPIES_OF_BUFFERS * buffers


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("head", sorted(heads()))
def test_a_job_asks_for_what_the_weights_take_and_for_no_more_than_three_times_as_much(head, changes):
    model = model_section(head, changes)
    taken = numbers_of(model, COCO)
    assert taken - SMALL_CHANGE <= sum(held_numbers(model, width) for width in COCO) <= 3 * taken


def test_a_linear_head_asks_for_its_one_matrix():
    assert held_numbers(model_section("linear", {"output_dim": 32}), 4096) == COPIES_OF_WEIGHTS * 4096 * 32


def test_a_head_that_says_nothing_of_its_hidden_layer_asks_for_one_of_four_times_the_width():
    assert held_numbers(model_section("siglip", {"output_dim": 32}), 100) == COPIES_OF_WEIGHTS * (
        100 * 32 + 400 * (2 * 100 + 32)
    )
