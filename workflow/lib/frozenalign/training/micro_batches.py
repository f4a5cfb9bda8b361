"""The gradients of a batch whose activations need not all be in memory at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from frozenalign.system.products import blocks
from frozenalign.system.random_state import random_state, restore_random_state

Features = Callable[[slice], Sequence[Tensor]]
Loss = Callable[[Sequence[Tensor]], Tensor]


def backward(features: Features, loss: Loss, rows: int, part: int, device: torch.device) -> Tensor:
    """Add the gradients of the loss of a batch of `rows`, with the activations of `part` rows at a time; return it.

    features: maps a slice of the batch to tensors (rows of the slice, …) on the device. loss: maps those of the whole
    batch to a scalar: every row meets every other one, whatever the part. The gradients are those of the whole batch
    at once up to rounding; dropout draws its masks part by part.
    """
    if part >= rows:
        value = loss(features(slice(0, rows)))
        value.backward()
        return value.detach()
    return _backward_in_parts(features, loss, list(blocks(rows, part)), device)


def _backward_in_parts(features: Features, loss: Loss, parts: Sequence[slice], device: torch.device) -> Tensor:
    """Take features without a graph, the loss's gradients by them, then every part again under its random numbers.

    Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup.
    """
    outputs, states = [], []
    with torch.no_grad():
        for part in parts:
            states.append(random_state(device))
            outputs.append(features(part))
    leaves = [torch.cat(tensors).requires_grad_() for tensors in zip(*outputs, strict=True)]
    value = loss(leaves)
    value.backward()
    after = random_state(device)
    for part, state in zip(parts, states, strict=True):
        restore_random_state(state)
        pairs = zip(features(part), leaves, strict=True)
        # A sum whose gradients by the outputs are the leaves': given those, PyTorch would import its compiler.
        sum((output * leaf.grad[part]).sum() for output, leaf in pairs if leaf.grad is not None).backward()
    restore_random_state(after)
    return value.detach()
