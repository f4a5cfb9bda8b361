"""A training whose loss is no number any more: where it happened, and what went into the loss there."""

from typing import NoReturn

import torch
from torch import Tensor

from frozenalign.system.errors import UserError
from frozenalign.training.steps import Fit, tower_outputs

ADVICE = "lower training.learning_rate, or set training.gradient_clip"


class DivergenceError(UserError):
    """A loss that became NaN or infinite; `state` is the training, its weights those before the step that broke it."""

    def __init__(self, message: str, state: Fit) -> None:
        super().__init__(message)
        self.state = state


def refuse_divergence(state: Fit, batches: int, images: Tensor, texts: Tensor) -> NoReturn:
    """Raise `DivergenceError`, given the standardised images (B, D_image) and texts (B, D_text) of the step that broke.

    batches: steps of an epoch.
    """
    step = sound_steps(state)
    where = f"epoch {state.epoch + 1}, step {step - state.first_step + 1} of {batches}"
    message = (
        f"the loss became {state.loss_sum.item()} in {where}, at a learning rate of {state.learning_rate(step):.3g}; "
        f"into it went {_inputs(state, images, texts)}: {ADVICE}"
    )
    raise DivergenceError(message, state)


def refuse_broken_weights(state: Fit) -> NoReturn:
    """Raise `DivergenceError` for weights whose projections of the validation pairs are not finite."""
    found = "the projections hold NaN or infinite values"
    if not state.step:
        start = "before the first step: start from random weights (model.skip: none), or check the embeddings"
        raise DivergenceError(f"{found} {start}", state)
    where = (
        f"epoch {state.epoch + 1}, step {state.step}, at a learning rate of {state.learning_rate(state.step - 1):.3g}"
    )
    raise DivergenceError(f"{found} after {where}: {ADVICE}", state)


def sound_steps(state: Fit) -> int:
    """Return how many steps moved the weights: the optimiser skips all from the first loss on that is not finite."""
    return int(torch.stack(state.optimizer.steps).max().item())


@torch.no_grad()
def _inputs(state: Fit, images: Tensor, texts: Tensor) -> str:
    x, y, *_ = tower_outputs(state.model, images, texts)
    shown = {"images": images, "texts": texts, "image features": x, "text features": y}
    ranges = [f"{name} {_range(values)}" for name, values in shown.items()]
    weights = torch.cat([value.detach().flatten() for value in state.model.parameters()])
    terms = [f"{name} {value.item():.3g}" for name, value in state.loss.terms().items()]
    return ", ".join([*ranges, f"weights {_range(weights)}", *terms])


def _range(values: Tensor) -> str:
    broken = int((~values.isfinite()).sum())
    low, high = values.float().aminmax()
    return f"{low:.3g} to {high:.3g}" if not broken else f"with {broken:,} of {values.numel():,} values not finite"
