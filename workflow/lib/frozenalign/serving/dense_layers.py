"""Towers as sequences of the layers that sentence-transformers has: dense layers and normalisation.

A dense layer computes activation(weight x + bias), plus a matrix times x where it has a residual. What a skip path or a
penalty for hubs takes past an activation goes through that residual.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.models.dual_encoder import TowerBesidePath, unit
from frozenalign.models.heads import ALIGNTower, CLIPTower
from frozenalign.models.hub_penalty import CARRIER, PenalizedTower

# Of a logarithm of a sum of exponentials, terms that are smaller than the largest by exp(-NEGLIGIBLE) do not show.
NEGLIGIBLE = 30.0
# Components of a vector are so much enlarged beside that logarithm, so that its rounding does not reach them.
ENLARGED = 64.0


@dataclass(frozen=True)
class Dense:
    """One dense layer: weight (K, D), bias (K,), the activation, and a residual (K, D) or none."""

    weight: Tensor
    bias: Tensor
    activation: type[nn.Module] = nn.Identity
    residual: Tensor | None = None


@dataclass(frozen=True)
class Normalize:
    """Scales rows to length one."""


Layers = list[Dense | Normalize]


@functools.singledispatch
def layers_of(tower: nn.Module) -> Layers | None:
    """Return the layers that compute a tower, whose standardisation is folded in; None where they cannot."""
    return None


@layers_of.register
def _(tower: nn.Linear) -> Layers:
    return [Dense(tower.weight, tower.bias)]


@layers_of.register
def _(tower: CLIPTower) -> Layers:
    first, activation, _, last = tower
    return [Dense(first.weight, first.bias, type(activation)), Dense(last.weight, last.bias)]


@layers_of.register
def _(tower: ALIGNTower) -> Layers:
    first, norm, activation, _, last = tower
    weight, bias = first.weight, first.bias
    if isinstance(norm, nn.BatchNorm1d):
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight, bias = scale[:, None] * weight, scale * (bias - norm.running_mean) + norm.bias
    return [Dense(weight, bias, type(activation)), Dense(last.weight, last.bias)]


@layers_of.register
def _(tower: TowerBesidePath) -> Layers | None:
    layers = layers_of(tower.tower)
    if layers is None or len(layers) > 2:
        return None
    *first, last = layers
    gated = Dense(tower.gate[:, None] * last.weight, tower.gate * last.bias + tower.path.bias)
    if not first:
        return [Dense(gated.weight + tower.path.weight, gated.bias)]
    (hidden,) = first
    path = tower.path.weight
    # A residual as wide as its input is taken for the identity: one place more, which stays zero.
    spare = path.new_zeros(int(len(hidden.weight) + len(path) == path.shape[1]), path.shape[1])
    # Activations of zero are zero: the path's places hold the residual alone.
    beside = Dense(
        torch.cat([hidden.weight, torch.zeros_like(path), spare]),
        torch.cat([hidden.bias, path.new_zeros(len(path) + len(spare))]),
        hidden.activation,
        torch.cat([torch.zeros_like(hidden.weight), path, spare]),
    )
    kept = torch.eye(len(path), len(path) + len(spare))
    return [beside, Dense(torch.cat([gated.weight, kept], dim=1), gated.bias)]


@layers_of.register
def _(tower: PenalizedTower) -> Layers | None:
    layers = layers_of(tower.tower)
    return layers and [*layers, Normalize(), *_penalty(tower)]


def _penalty(tower: PenalizedTower) -> Layers:
    """Return the layers that put the penalty for hubs beside unit vectors (N, D).

    The logarithms of a softmax over [P u / T, -C, …, -C] end in D + 1 places that hold -C - log sum exp(P u / T), the
    residual adds u to D of them, and differences of the two give both.
    """
    prototypes, temperature = tower.prototypes, tower.temperature
    count, width = prototypes.shape
    largest = (prototypes.norm(dim=1).max() / temperature).item()
    shift = largest + NEGLIGIBLE
    logarithms = Dense(
        torch.cat([prototypes / temperature, prototypes.new_zeros(width + 1, width)]),
        torch.cat([prototypes.new_zeros(count), prototypes.new_full((width + 1,), -shift)]),
        nn.LogSoftmax,
        torch.cat([prototypes.new_zeros(count, width), ENLARGED * torch.eye(width), prototypes.new_zeros(1, width)]),
    )
    weight = prototypes.new_zeros(width + 2, count + width + 1)
    weight[:width, count:-1] = torch.eye(width) / ENLARGED
    weight[:width, -1] = -1 / ENLARGED
    carrier, penalty = (width, width + 1) if tower.modality == "image" else (width + 1, width)
    weight[penalty, -1] = temperature / CARRIER
    bias = prototypes.new_zeros(width + 2)
    bias[penalty] = (tower.offset + temperature * (math.log(count) + shift)) / CARRIER
    bias[carrier] = CARRIER
    return [logarithms, Dense(weight, bias)]


@torch.no_grad()
def applied(layers: Sequence[Dense | Normalize], rows: Tensor) -> Tensor:
    """Return what layers make of rows (N, D), as sentence-transformers computes it."""
    for layer in layers:
        if isinstance(layer, Normalize):
            rows = unit(rows)
            continue
        linear = functional.linear(rows, layer.weight, layer.bias)
        # Over the last dimension, where the activation has one.
        out = linear.log_softmax(-1) if layer.activation is nn.LogSoftmax else layer.activation()(linear)
        rows = out if layer.residual is None else out + functional.linear(rows, layer.residual)
    return rows
