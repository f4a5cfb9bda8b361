"""The state of an unfinished training on disk, with which only the same training goes on."""

import contextlib
import io
import logging
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from frozenalign.models.model_file import read_checkpoint, write_checkpoint
from frozenalign.system.errors import UserError
from frozenalign.system.random_state import random_state, restore_random_state
from frozenalign.system.signals import held_back
from frozenalign.training.steps import Fit

logger = logging.getLogger(__name__)
FORMAT = 2
SECONDS = 30.0
# Writing takes at most this share of a training's time.
SHARE_OF_TIME = 0.05
_MODULES = ("model", "loss", "momentum_copy", "average", "optimizer")
_MADE_ANEW = ("augmentation", "learning_rate", "processes", "device_steps", "plan")
_VALUES = [each.name for each in fields(Fit) if each.name not in (*_MODULES, *_MADE_ANEW)]


def kept_fingerprint(path: Path) -> str | None:
    """Return the fingerprint of the training whose state is in a file, None if there is no such file."""
    with contextlib.suppress(UserError):
        return read_checkpoint(path).get("fingerprint") if path.exists() else None
    return None


@dataclass
class Checkpoint:
    """The file of a training's state.

    fingerprint: a hash of everything that the training depends on. seconds: time between two writings.
    """

    path: Path
    fingerprint: str
    seconds: float = SECONDS
    written_at: float = field(default_factory=time.monotonic)

    def write_if_due(self, state: Fit) -> None:
        """Write the state if the last writing is long enough ago; where that fails, only warn."""
        if time.monotonic() - self.written_at < self.seconds:
            return
        try:
            self.write(state)
        except UserError as error:
            self.written_at = time.monotonic()
            logger.warning("no checkpoint: %s", error)

    def write(self, state: Fit) -> None:
        """Write everything that the training needs to go on as if it had never stopped."""
        began = time.monotonic()
        with held_back():
            write_checkpoint(self.path, {"format": FORMAT, "fingerprint": self.fingerprint} | _content(state))
        self.written_at = time.monotonic()
        self.seconds = max(self.seconds, (self.written_at - began) / SHARE_OF_TIME)

    def read_into(self, state: Fit) -> bool:
        """Restore a training from the file; return False if the file holds no state of this training."""
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
        """Remove the file, after the training has ended."""
        self.path.unlink(missing_ok=True)


def take_state_of_first(state: Fit) -> None:
    """Replace a training's state by that of the first of its processes."""
    if state.processes.count == 1:
        return

    def state_of_first() -> bytes:
        stream = io.BytesIO()
        torch.save(_content(state), stream)
        return stream.getvalue()

    received = state.processes.from_first(state_of_first)
    if not state.processes.first:
        _restore(state, torch.load(io.BytesIO(received), map_location="cpu", weights_only=True))


def _content(state: Fit) -> dict[str, Any]:
    content = {name: getattr(state, name).state_dict() for name in _MODULES if getattr(state, name) is not None}
    content |= {name: getattr(state, name) for name in _VALUES}
    return content | {"random": random_state(state.loss_sum.device)}


def _restore(state: Fit, content: dict[str, Any]) -> None:
    if (queue := content["loss"].get("image_queue")) is not None:
        state.loss.prepare_queue(queue.shape[1])
    for name in _MODULES:
        if getattr(state, name) is not None:
            getattr(state, name).load_state_dict(content[name])
    device = state.loss_sum.device
    for name in _VALUES:
        setattr(state, name, content[name])
    state.loss_sum = state.loss_sum.to(device)
    restore_random_state(content["random"])
