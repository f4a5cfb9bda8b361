"""The registry of losses, and their base class.

Notation in this wing: x and y are L2-normalised image and text features (B, D), S = x yᵀ, row = image to text.
Parameters are keyword-only arguments annotated with the types of `configuration.parameters`; configuration, tuning and
documentation read them from here.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
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

    A learned temperature is the parameter `temperature`, or `logit_scale`, which holds ln(1 / temperature); a fixed one
    is the number `temperature`. A temperature or a bias may be `auto`: `training.calibration` fits these scalars.

    published_temperature: what an automatic temperature is before it is fitted. bounds: the lowest and the highest
    temperature. fitted: the automatic scalars, of `temperature` and `bias`.
    mask_same_image: whether other pairs of an anchor's own image are left out; losses with a queue always do.
    tiles: rows and columns of the logits that are computed at once, None where a loss computes all of them.
    processes: those that compute the loss together. shares_rows: whether `forward` takes only the features (b, D) of
    this process's rows, and returns their terms, which add up to the loss; else it takes those of all and returns the
    loss. Image indices and keys are of the whole batch, (B,) and (B, D).
    """

    mask_same_image = False
    processes: Processes = ALONE
    shares_rows = False
    tiles: FittingSize | None = None
    published_temperature: float
    bounds = (0.0, math.inf)

    def __init__(self) -> None:
        super().__init__()
        self.fitted: tuple[str, ...] = ()

    def numeric(self, temperature: float | Literal["auto"]) -> float:
        """Return a temperature as a number; an automatic one is noted and starts at the published one."""
        if temperature != "auto":
            return float(temperature)
        self.fitted += ("temperature",)
        return self.published_temperature

    def negatives(self, batch_size: int) -> int:
        """Return the number of negatives of each anchor."""
        return batch_size - 1

    def of_logits(self, logits: Tensor, weight: float) -> Tensor:
        """Return the loss, with its hard targets, of logits (…, B, C) whose match is on the diagonal.

        Anchors of one direction meet C keys, in the same way as those of the other one. weight: how often each negative
        counts.
        """
        raise NotImplementedError(f"{type(self).__name__} has no scalars to fit")

    def scalars(self) -> dict[str, float]:
        """Return the temperature, and the bias where there is one."""
        found = {name: value.item() for name, value in self.terms().items()}
        return found if "temperature" in found else {"temperature": self.temperature, **found}

    def set_scalars(self, values: Mapping[str, float]) -> None:
        """Set some of what `scalars` returns."""
        for name, value in values.items():
            if name == "temperature" and hasattr(self, "logit_scale"):
                self.logit_scale.data.fill_(-math.log(value))
            elif isinstance(own := getattr(self, name), Tensor):
                own.data.fill_(value)
            else:
                setattr(self, name, value)

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


class FixedTemperature:
    """A loss whose temperature is a number that is not learned, kept with its state because it may have been fitted."""

    temperature: float

    def get_extra_state(self) -> Tensor:
        """Return the temperature."""
        return torch.tensor(self.temperature, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the temperature."""
        self.temperature = state.item()
