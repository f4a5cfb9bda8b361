"""AdamW, the choice of the weights that decay, and the learning rate of every step."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def decays(parameter: Tensor) -> bool:
    """Return whether weight decay applies: to matrices, not to biases, norms and temperatures."""
    return parameter.dim() >= 2


def rate_of(parameter: Tensor) -> float:
    """Return what the learning rate is multiplied by for a parameter: its `rate`, where its module has set one."""
    return getattr(parameter, "rate", 1.0)


class AdamW:
    """Adam with decoupled weight decay; each step gets its learning rate.

    Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization. It calls the fused kernel of `torch.optim.AdamW`
    directly: the class imports PyTorch's compiler, two seconds where a head may train in twenty.
    """

    def __init__(self, modules: Iterable[nn.Module], weight_decay: float) -> None:
        self.weight_decay = weight_decay
        self.parameters = [value for module in modules for value in module.parameters() if value.requires_grad]
        self.means = [torch.zeros_like(value) for value in self.parameters]
        self.squares = [torch.zeros_like(value) for value in self.parameters]
        self.steps = [torch.zeros((), device=value.device) for value in self.parameters]

    def zero_grad(self) -> None:
        """Remove the gradients."""
        for value in self.parameters:
            value.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor, gradient_clip: float = 0.0, skip: Tensor | None = None) -> None:
        """Update every parameter that has a gradient, each with the learning rate times its own rate.

        learning_rate: a number, or a tensor () on the device of the parameters.
        gradient_clip: bound of the norm of all gradients together, 0 for none; the kernel itself divides them.
        skip: () whether to change nothing; the kernel reads it, so that the CPU need not wait for a GPU.
        """
        states = zip(self.parameters, self.means, self.squares, self.steps, strict=True)
        moved = [state for state in states if state[0].grad is not None]
        found_inf, divisor = None if skip is None else skip.float(), None
        if gradient_clip:
            norm = nn.utils.get_total_norm([parameter.grad for parameter, *_ in moved])
            divisor = (norm / gradient_clip).clamp(min=1.0)
        groups: dict[tuple[bool, float], list[tuple[Tensor, ...]]] = {}
        for state in moved:
            groups.setdefault((decays(state[0]), rate_of(state[0])), []).append(state)
        for (decaying, rate), group in groups.items():
            parameters, means, squares, steps = map(list, zip(*group, strict=True))
            adamw(
                parameters,
                [parameter.grad for parameter in parameters],
                means,
                squares,
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=learning_rate * rate,
                weight_decay=self.weight_decay if decaying else 0.0,
                eps=EPSILON,
                maximize=False,
                grad_scale=divisor,
                found_inf=found_inf,
            )

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return the running averages and step counts, in the order of the parameters."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
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
