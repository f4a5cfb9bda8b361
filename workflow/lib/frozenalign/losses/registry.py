"""The registry of losses, and what training asks of a loss.

Notation in this wing: x and y are L2-normalised image and text features (B, D), S = x yᵀ, row = image to text.
Parameters are keyword-only arguments annotated with the types of `configuration.parameters`; configuration, tuning and
documentation read them from here.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from frozenalign.configuration.registrations import losses
from frozenalign.configuration.registry import Registry
from frozenalign.system.memory import FittingSize

LOSSES = Registry("loss", losses)
register_loss = LOSSES.register


def build_loss(settings: Mapping[str, Any], batch_size: int, mask_same_image: bool = False) -> "ContrastiveLoss":
    """Return the loss that the `loss` section of an experiment describes, for batches of `batch_size` pairs.

    mask_same_image: leave other pairs of an anchor's own image out of the loss, for batches that may hold some.
    """
    parameters = {name: value for name, value in settings.items() if name != "type"}
    loss = LOSSES[settings["type"]](**parameters)
    loss.mask_same_image = mask_same_image
    loss.expect_batches(batch_size)
    return loss


class ContrastiveLoss(nn.Module):
    """What the training loop asks of a loss; the methods here are for losses that need nothing of the kind.

    mask_same_image: whether other pairs of an anchor's own image are left out; losses with a queue always do.
    tiles: rows and columns of the logits that are computed at once, None where a loss computes all of them.
    """

    mask_same_image = False
    tiles: FittingSize | None = None

    def expect_batches(self, batch_size: int) -> None:
        """Learn the batch size before training, for initial values that depend on it."""

    def start_step(self, epochs_done: float) -> None:
        """Learn how far training is, in epochs, before a step."""

    def after_step(self) -> None:
        """Bring learned values back into their bounds after the optimiser's step."""

    def terms(self) -> dict[str, Tensor]:
        """Return the scalars worth a place in the log: temperatures and biases."""
        return {}

    def freeze_temperature(self) -> None:
        """Keep the temperature where it starts."""
