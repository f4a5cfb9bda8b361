"""The penalty on projections that lose the neighbourhoods of their inputs, against float64 by definition."""

import math

import pytest
import torch

from frozenalign.losses.structure import structure_loss


def rows(seed: int, width: int) -> torch.Tensor:
    return torch.randn(6, width, generator=torch.Generator().manual_seed(seed))


def by_definition(embeddings: torch.Tensor, projections: torch.Tensor) -> float:
    total = 0.0
    chances = []
    for matrix in (embeddings.double(), projections.double()):
        matrix = matrix - matrix.mean(0)
        unit = matrix / matrix.norm(dim=1, keepdim=True)
        chances.append([[math.exp(unit[i] @ unit[j] / 0.05) * (i != j) for j in range(6)] for i in range(6)])
    for first, second in zip(*chances, strict=True):
        p, q = ([value / sum(row) for value in row] for row in (first, second))
        for a, b in zip(p, q, strict=True):
            middle = (a + b) / 2
            total += sum(value / 2 * math.log(value / middle) for value in (a, b) if value > 0)
    return total / 6


def test_it_is_the_mean_divergence_of_the_neighbourhoods():
    embeddings, projections = rows(0, 5), rows(1, 3)
    found = structure_loss(embeddings, projections).item()
    assert found == pytest.approx(by_definition(embeddings, projections), rel=1e-4)


def test_a_rotated_and_scaled_copy_of_the_inputs_costs_nothing():
    rotation, _ = torch.linalg.qr(rows(2, 6)[:, :5].T @ rows(3, 6)[:, :5])
    embeddings = rows(0, 5)
    assert structure_loss(embeddings, 3 * embeddings @ rotation).item() == pytest.approx(0.0, abs=1e-5)


def test_only_the_projections_are_moved():
    embeddings, projections = rows(0, 5).requires_grad_(), rows(1, 3).requires_grad_()
    structure_loss(embeddings, projections).backward()
    assert embeddings.grad is None
    assert projections.grad.abs().sum() > 0
