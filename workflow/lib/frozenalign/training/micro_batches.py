"""The features of a batch, with the activations of only some rows in memory at a time."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from frozenalign.system.products import blocks
from frozenalign.system.random_state import random_state, restore_random_state

Function = Callable[..., Sequence[Tensor]]


def parts_of(count: int, part: int) -> list[slice]:
    """Return slices of at most `part` rows that cover `count`; one empty slice covers no rows."""
    return list(blocks(count, part)) or [slice(0, 0)]


class BatchFeatures:
    """A function applied to the rows of a batch, with the activations of `part` rows in memory at a time.

    The loss is computed from `outputs`, tensors (B, …) of the whole batch. After its backward pass, `backward` takes
    the gradients from the outputs to the weights: those of the whole batch up to rounding, with the dropout masks drawn
    part by part.

    function: maps inputs (rows, …) to tensors (rows, …). inputs: of the whole batch, (B, …), on one device.
    """

    def __init__(self, function: Function, inputs: Sequence[Tensor], part: int) -> None:
        self.function, self.inputs = function, inputs
        self.parts = parts_of(len(inputs[0]), part)
        self.random_states = []
        self.outputs = self._of(self.parts[0]) if len(self.parts) == 1 else self._without_activations()

    def backward(self) -> None:
        """Compute every part again with the same random numbers and propagate its outputs' gradients to the weights."""
        if len(self.parts) == 1:
            return  # The backward pass of the loss has gone through the whole graph.
        after = random_state(self.inputs[0].device)
        for part, state in zip(self.parts, self.random_states, strict=True):
            restore_random_state(state)
            pairs = zip(self._of(part), self.outputs, strict=True)
            # A sum whose gradients by the outputs are leaf.grad: backward(leaf.grad) would import PyTorch's compiler.
            sum((output * leaf.grad[part]).sum() for output, leaf in pairs if leaf.grad is not None).backward()
        restore_random_state(after)

    def _of(self, part: slice) -> Sequence[Tensor]:
        return self.function(*(rows[part] for rows in self.inputs))

    @torch.no_grad()
    def _without_activations(self) -> list[Tensor]:
        """Return the outputs as leaves of a new graph, and keep the random numbers of every part.

        Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup.
        """
        by_part = []
        for part in self.parts:
            self.random_states.append(random_state(self.inputs[0].device))
            by_part.append(self._of(part))
        return [torch.cat(tensors).requires_grad_() for tensors in zip(*by_part, strict=True)]
