"""Averages of weights over the steps of training, and batch-norm statistics renewed for them."""

import pytest
import torch

from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.training.averaging import WeightAverage, exponential, renew_batch_norm, uniform


def model(kind: str = "linear") -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder({"type": kind, "output_dim": 3}, 5, 4)


def averaged(kept, weights: list[float]) -> float:
    """Return the average of a weight that takes these values after its steps, having started at zero."""
    source = model()
    source.image_tower.weight.data.zero_()
    average = WeightAverage(source, kept)
    for step, value in enumerate(weights):
        source.image_tower.weight.data.fill_(value)
        average.update(source, step)
    values = average.model.image_tower.weight
    assert (values == values[0, 0]).all()
    return values[0, 0].item()


def test_a_uniform_average_is_the_mean_of_all_steps_from_the_first_that_counts():
    assert averaged(uniform(2), [100.0, 50.0, 1.0, 2.0, 6.0]) == pytest.approx(3.0)


def test_an_exponential_average_forgets_the_start_faster_than_its_decay():
    kept = exponential(0.9)
    assert kept(0) == pytest.approx(0.1)
    assert kept(10_000) == 0.9
    assert averaged(kept, [5.0] * 60) == pytest.approx(5.0, rel=1e-3)


def test_renewed_statistics_are_those_of_the_rows_under_the_present_weights():
    encoder = model("align")
    generator = torch.Generator().manual_seed(1)
    images, texts = torch.randn(40, 5, generator=generator), torch.randn(40, 4, generator=generator)
    renew_batch_norm(encoder, [(images[:20], texts[:20]), (images[20:], texts[20:])])
    first, norm = encoder.image_tower[0], encoder.image_tower[1]
    with torch.no_grad():
        halves = [first(images[:20]), first(images[20:])]
    torch.testing.assert_close(norm.running_mean, torch.stack([half.mean(0) for half in halves]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([half.var(0) for half in halves]).mean(0))
    assert norm.momentum == 0.1
