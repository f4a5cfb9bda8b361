"""Averages of weights over the steps of training, and batch-norm statistics renewed for them."""

import pytest
import torch

from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.training.averaging import MomentumCopy, WeightAverage, exponential, renew_batch_norm, uniform


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


def test_copies_have_the_whitening_matrices_of_the_model_itself_and_weights_of_their_own():
    torch.manual_seed(0)
    source = DualEncoder({"type": "mlp", "output_dim": 3, "hidden_dim": 6, "skip": "cca", "whitening": "pca"}, 5, 4)
    matrix = source.image_tower.tower.matrix
    for copied in (WeightAverage(source, lambda step: 0.5).model, MomentumCopy(source, 0.5)):
        assert copied.image_tower.tower.matrix is matrix
        weight, own = source.image_tower.path.weight, copied.image_tower.path.weight
        assert torch.equal(own, weight)
        assert own is not weight
    copied, before = MomentumCopy(source, 0.5), weight.detach().clone()
    weight.data.add_(2.0)
    copied.update(source)
    torch.testing.assert_close(copied.image_tower.path.weight, before + 1.0)
    assert copied.image_tower.tower.matrix is matrix


def test_renewed_statistics_are_those_of_the_rows_under_the_present_weights():
    encoder = model("align")
    generator = torch.Generator().manual_seed(1)
    images, texts = torch.randn(40, 5, generator=generator), torch.randn(40, 4, generator=generator)
    images += torch.arange(40)[:, None]
    renew_batch_norm(encoder, [(images[:25], texts[:25]), (images[25:37], texts[25:37]), (images[37:], texts[37:])])
    first, norm = encoder.image_tower[0], encoder.image_tower[1]
    with torch.no_grad():
        entering = first(images).double()
    torch.testing.assert_close(norm.running_mean, entering.mean(0).float())
    torch.testing.assert_close(norm.running_var, entering.var(0).float())
    assert norm.momentum == 0.1
    assert not norm._forward_pre_hooks
