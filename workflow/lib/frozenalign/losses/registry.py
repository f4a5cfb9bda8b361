"""The registry of losses, and their base class.

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
from frozenalign.system.processes import ALONE, Processes

LOSSES = Registry("loss", losses)
register_loss = LOSSES.register


def build_loss(settings: Mapping[str, Any], batch_size: int, mask_same_image: bool = False) -> "ContrastiveLoss":
    """Return the loss that the `loss` section of an experiment describes, for batches of `batch_size` pairs."""
    loss = LOSSES[settings["type"]](**{name: value for name, value in settings.items() if name != "type"})
    loss.mask_same_image = mask_same_image
    loss.expect_batches(batch_size)
    return loss


class ContrastiveLoss(nn.Module):
    """Base of all losses, with the hooks that the training loop calls; by default they do nothing.

    A learned temperature is the parameter `temperature`, or `logit_scale`, which holds ln(1 / temperature).

    learns_temperature: whether it does; read from the class's source as well, where a configuration is checked.
    mask_same_image: whether other pairs of an anchor's own image are left out; losses with a queue always do.
    tiles: rows and columns of the logits that are computed at once, None where a loss computes all of them.
    processes: those that compute the loss together. shares_rows: whether `forward` takes only the features (b, D) of
    this process's rows, and returns their terms, which add up to the loss; else it takes those of all and returns the
    loss. Image indices and keys are of the whole batch, (B,) and (B, D).
    """

    learns_temperature = True
    mask_same_image = False
    processes: Processes = ALONE
    shares_rows = False
    tiles: FittingSize | None = None

    def expect_batches(self, batch_size: int) -> None:
        """Set initial values that depend on the batch size."""

    def start_step(self, epochs_done: float) -> None:
        """Adjust to the progress of training, in epochs, before a step."""

    def after_step(self) -> None:
        """Clamp learned values to their bounds after the optimiser's step."""

    def terms(self) -> dict[str, Tensor]:
        """Return the learned scalars for the log, `logit_scale` as the temperature."""
        scalars = {name: value for name, value in self.named_parameters() if not value.dim()}
        scale = scalars.pop("logit_scale", None)
        return scalars if scale is None else {"temperature": (-scale).exp(), **scalars}

    def freeze_temperature(self) -> None:
        """Keep the temperature at its initial value; a bias stays learnable."""
        for name, value in self.named_parameters():
            if name in ("temperature", "logit_scale"):
                value.requires_grad_(False)
