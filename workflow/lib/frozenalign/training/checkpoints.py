"""The state of an unfinished training on disk: written whole, read only by the run that wrote it."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from frozenalign.models.model_file import read_checkpoint, write_checkpoint
from frozenalign.system.errors import UserError
from frozenalign.system.random_state import random_state, restore_random_state
from frozenalign.system.signals import held_back
from frozenalign.training.steps import Fit

logger = logging.getLogger(__name__)
FORMAT = 2
SECONDS = 30.0
# Writing may take this share of a training's time at the most.
SHARE_OF_TIME = 0.05
_MODULES = ("model", "loss", "momentum_copy", "average", "optimizer")
_VALUES = (
    "part",
    "loss_sum",
    "epoch",
    "step",
    "batch",
    "first_step",
    "history",
    "best_epoch",
    "best_value",
    "best_state",
)


@dataclass
class Checkpoint:
    """The file of a training's state, and when it was last written.

    fingerprint: names everything that decides the training. seconds: time between two writings.
    """

    path: Path
    fingerprint: str
    seconds: float = SECONDS
    written_at: float = field(default_factory=time.monotonic)

    def write_if_due(self, state: Fit) -> None:
        """Write the state if the last writing is long enough ago; training goes on where it cannot be written."""
        if time.monotonic() - self.written_at < self.seconds:
            return
        try:
            self.write(state)
        except UserError as error:
            self.written_at = time.monotonic()
            logger.warning("no checkpoint: %s", error)

    def write(self, state: Fit) -> None:
        """Write everything a training needs to go on as if it had never stopped."""
        began = time.monotonic()
        with held_back():
            write_checkpoint(self.path, _content(state) | {"format": FORMAT, "fingerprint": self.fingerprint})
        self.written_at = time.monotonic()
        self.seconds = max(self.seconds, (self.written_at - began) / SHARE_OF_TIME)

    def read_into(self, state: Fit) -> bool:
        """Bring a training to the state in the file; return False where there is none of this training."""
        if not self.path.exists():
            return False
        try:
            content = read_checkpoint(self.path)
        except UserError as error:
            logger.warning("starting anew: %s", error)
            return False
        if content.get("format") != FORMAT or content.get("fingerprint") != self.fingerprint:
            logger.warning("starting anew: %s is of another configuration, other data or other code", self.path)
            return False
        _restore(state, content)
        return True

    def remove(self) -> None:
        """Remove the file, of a training that has ended."""
        self.path.unlink(missing_ok=True)


def _content(state: Fit) -> dict:
    content = {name: getattr(state, name).state_dict() for name in _MODULES if getattr(state, name) is not None}
    content |= {name: getattr(state, name) for name in _VALUES}
    return content | {"random": random_state(state.loss_sum.device)}


def _restore(state: Fit, content: dict) -> None:
    if (queue := content["loss"].get("image_queue")) is not None:
        state.loss.prepare_queue(queue.shape[1], state.loss_sum.device)
    for name in _MODULES:
        if getattr(state, name) is not None:
            getattr(state, name).load_state_dict(content[name])
    device = state.loss_sum.device
    for name in _VALUES:
        setattr(state, name, content[name])
    state.loss_sum = state.loss_sum.to(device)
    restore_random_state(content["random"])
