"""Standardisation and whitening folded into the linear maps that follow them: fewer weights, the same projections."""

import copy
import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from frozenalign.models.dual_encoder import DualEncoder, Standardize, TowerBesidePath, WhitenedTower
from frozenalign.models.heads import AttentionTower
from frozenalign.models.hub_penalty import PenalizedTower

# Folded weights are rounded to float32 anew, which unit vectors must not show.
TOLERANCE = 5e-6
TRIED_ROWS = 256


@dataclass(frozen=True)
class Affine:
    """The map x -> matrix x + shift in front of a tower, float64: matrix (K, D), shift (K,)."""

    matrix: Tensor
    shift: Tensor

    @classmethod
    def of(cls, statistics: Standardize) -> "Affine":
        """Return the standardisation of rows."""
        inverse = statistics.scale.double().reciprocal()
        return cls(torch.diag(inverse), -statistics.mean.double() * inverse)

    def followed_by(self, matrix: Tensor) -> "Affine":
        """Return this map followed by a matrix (M, K)."""
        return Affine(matrix.double() @ self.matrix, matrix.double() @ self.shift)


def fold(model: DualEncoder) -> DualEncoder | None:
    """Return a copy of a model in which its linear maps do what standardises and whitens their input.

    None where a tower does not begin with a linear map, and where the folded weights, rounded, project tried rows
    elsewhere by more than TOLERANCE.
    """
    folded = copy.deepcopy(model)
    # The settings say how the copy is rebuilt.
    folded.settings["whitening"] = "none"
    towers = []
    for tower, statistics in (
        (folded.image_tower, folded.image_statistics),
        (folded.text_tower, folded.text_statistics),
    ):
        towers.append(_folded(tower, Affine.of(statistics)))
        statistics.mean.zero_()
        statistics.scale.fill_(1.0)
    if None in towers:
        return None
    folded.image_tower, folded.text_tower = towers
    return folded if largest_difference(model, folded) <= TOLERANCE else None


def is_neutral(statistics: Standardize) -> bool:
    """Return whether a standardisation changes nothing, as where it is folded into what follows."""
    return not statistics.mean.any() and bool((statistics.scale == 1).all())


def tried_rows(statistics: Standardize, count: int) -> Tensor:
    """Return rows (count, D) that are distributed as the training rows of a modality, dimension by dimension."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(count, len(statistics.mean), generator=generator)
    return random * statistics.scale.cpu() + statistics.mean.cpu()


@torch.no_grad()
def largest_difference(model: DualEncoder, other: DualEncoder) -> float:
    """Return the largest difference of any number in the projections of tried rows by two models."""
    images, texts = (tried_rows(each, TRIED_ROWS) for each in (model.image_statistics, model.text_statistics))
    differences = (
        model.encode_images(images) - other.encode_images(images),
        model.encode_texts(texts) - other.encode_texts(texts),
    )
    return max(each.abs().max().item() for each in differences)


@functools.singledispatch
def _folded(tower: nn.Module, before: Affine) -> nn.Module | None:
    """Return a tower that does alone what it did after `before`; None where it does not begin with a linear map."""
    return None


@_folded.register
def _(tower: nn.Linear, before: Affine) -> nn.Module:
    _absorb(tower, before)
    return tower


@_folded.register
def _(tower: nn.Sequential, before: Affine) -> nn.Module | None:
    return _folded(tower[0], before) and tower


@_folded.register
def _(tower: AttentionTower, before: Affine) -> nn.Module:
    _absorb(tower.to_tokens, before)
    return tower


@_folded.register
def _(tower: WhitenedTower, before: Affine) -> nn.Module | None:
    return _folded(tower.tower, before.followed_by(tower.matrix))


@_folded.register
def _(tower: PenalizedTower, before: Affine) -> nn.Module | None:
    tower.tower = _folded(tower.tower, before)
    return tower.tower and tower


@_folded.register
def _(tower: TowerBesidePath, before: Affine) -> nn.Module | None:
    _absorb(tower.path, before)
    tower.tower = _folded(tower.tower, before)
    return tower.tower and tower


def _absorb(layer: nn.Linear, before: Affine) -> None:
    """Let a linear map do what `before` does as well."""
    weight = layer.weight.double()
    bias = layer.bias.double() + weight @ before.shift
    layer.weight.data = (weight @ before.matrix).float()
    layer.bias.data = bias.float()
