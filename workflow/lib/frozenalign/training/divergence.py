"""A training whose loss is no longer finite: where that happened, and the inputs of the loss."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from frozenalign.data.pairs import TrainingPairs
from frozenalign.system.errors import UserError
from frozenalign.training.steps import Fit, tower_outputs

ADVICE = "lower training.learning_rate, or set training.gradient_clip"


class DivergenceError(UserError):
    """A loss that became NaN or infinite; `state` is the training with the weights before that step."""

    def __init__(self, message: str, state: Fit) -> None:
        super().__init__(message)
        self.state = state


def refuse_divergence(state: Fit, train: TrainingPairs, pairs_of_epoch: Sequence[Tensor]) -> None:
    """Raise `DivergenceError` if the loss of a step was not finite; pairs_of_epoch: the pairs of each step.

    Reading the loss waits for a GPU.
    """
    if state.loss_sum.isfinite():
        return
    # The optimiser skips the step with the broken loss and all later ones.
    step = int(torch.stack(state.optimizer.steps).max().item())
    images, texts, _ = train.batch(pairs_of_epoch[step - state.first_step])
    where = f"epoch {state.epoch + 1}, step {step - state.first_step + 1} of {len(pairs_of_epoch)}"
    message = (
        f"the loss became {state.loss_sum.item()} in {where}, at a learning rate of {state.learning_rate(step):.3g}; "
        f"into it went {_inputs(state, images, texts)}: {ADVICE}"
    )
    raise DivergenceError(message, state)


def refuse_broken_weights(state: Fit) -> NoReturn:
    """Raise `DivergenceError` for weights whose projections of the validation pairs are not finite."""
    if state.step:
        rate = state.learning_rate(state.step - 1)
        where = f"after epoch {state.epoch + 1}, step {state.step}, at a learning rate of {rate:.3g}: {ADVICE}"
    else:
        where = "before the first step: start from random weights (model.skip: none), or check the embeddings"
    raise DivergenceError(f"the projections hold NaN or infinite values {where}", state)


@torch.no_grad()
def _inputs(state: Fit, images: Tensor, texts: Tensor) -> str:
    x, y, *_ = tower_outputs(state.model, images, texts)
    weights = torch.cat([value.detach().flatten() for value in state.model.parameters()])
    shown = {"images": images, "texts": texts, "image features": x, "text features": y, "weights": weights}
    ranges = [f"{name} {_range(values)}" for name, values in shown.items()]
    return ", ".join(ranges + [f"{name} {value.item():.3g}" for name, value in state.loss.terms().items()])


def _range(values: Tensor) -> str:
    broken = int((~values.isfinite()).sum())
    low, high = values.float().aminmax()
    return f"{low:.3g} to {high:.3g}" if not broken else f"with {broken:,} of {values.numel():,} values not finite"
