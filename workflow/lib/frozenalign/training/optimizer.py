"""AdamW, what of a model decays, and the learning rate of every step."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def decays(parameter: Tensor) -> bool:
    """Say whether weight decay applies: to matrices, not to biases, norms and temperatures."""
    return parameter.dim() >= 2


class AdamW:
    """Adam with decoupled weight decay, at a learning rate that each step names.

    Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization. The fused kernel of `torch.optim.AdamW`, without
    the class around it: the class imports PyTorch's compiler, two seconds that a head of twenty may not take.
    """

    def __init__(self, modules: Iterable[nn.Module], weight_decay: float) -> None:
        self.weight_decay = weight_decay
        self.parameters = [value for module in modules for value in module.parameters() if value.requires_grad]
        self.means = [torch.zeros_like(value) for value in self.parameters]
        self.squares = [torch.zeros_like(value) for value in self.parameters]
        self.steps = [torch.zeros((), device=value.device) for value in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for value in self.parameters:
            value.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float, gradient_clip: float = 0.0, skip: Tensor | None = None) -> None:
        """Move every parameter that has a gradient; gradients longer than gradient_clip together are shortened to it.

        gradient_clip: 0 for no bound. The division happens inside the kernel, without a pass over the gradients.
        skip: () whether to leave everything as it is; the kernel looks, so that a GPU need not be waited for.
        """
        found_inf = None if skip is None else skip.float()
        moved = [number for number, value in enumerate(self.parameters) if value.grad is not None]
        matrices = [number for number in moved if decays(self.parameters[number])]
        divisor = self._divisor(moved, gradient_clip) if gradient_clip else None
        self._move(matrices, learning_rate, self.weight_decay, divisor, found_inf)
        self._move([number for number in moved if number not in matrices], learning_rate, 0.0, divisor, found_inf)

    def _divisor(self, group: list[int], gradient_clip: float) -> Tensor:
        norm = nn.utils.get_total_norm([self.parameters[number].grad for number in group])
        return (norm / gradient_clip).clamp(min=1.0)

    def _move(
        self,
        group: list[int],
        learning_rate: float,
        weight_decay: float,
        divisor: Tensor | None,
        found_inf: Tensor | None,
    ) -> None:
        if not group:
            return
        adamw(
            [self.parameters[number] for number in group],
            [self.parameters[number].grad for number in group],
            [self.means[number] for number in group],
            [self.squares[number] for number in group],
            [],
            [self.steps[number] for number in group],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=learning_rate,
            weight_decay=weight_decay,
            eps=EPSILON,
            maximize=False,
            grad_scale=divisor,
            found_inf=found_inf,
        )

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return the running averages and step counts, in the order of the parameters."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for name, own in self.state_dict().items():
            for target, value in zip(own, state[name], strict=True):
                target.copy_(value)


def warmup_cosine(peak: float, warmup_steps: int, steps: int) -> Callable[[int], float]:
    """Return the learning rate of a step: a linear rise to `peak`, at most a tenth of all steps, then half a cosine."""
    rise = min(warmup_steps, steps // 10)

    def learning_rate(step: int) -> float:
        if step < rise:
            return peak * (step + 1) / (rise + 1)
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return learning_rate
