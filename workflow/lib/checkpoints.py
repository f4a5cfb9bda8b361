"""The state of an unfinished training on disk: written whole, read only by the run that wrote it."""

from pathlib import Path
from typing import Any

import torch

from workflow.lib.dual_encoder import read_checkpoint, write_checkpoint
from workflow.lib.errors import UserError

_MODULES = ("model", "loss", "momentum_copy", "average", "optimizer")
_VALUES = ("epoch", "step", "history", "best_epoch", "best_value", "best_state")


def write_training_state(path: Path, fit: Any, fingerprint: str) -> None:
    """Write everything a training needs to go on as if it had never stopped."""
    content = {name: getattr(fit, name).state_dict() for name in _MODULES if getattr(fit, name) is not None}
    content |= {name: getattr(fit, name) for name in _VALUES}
    content |= {"fingerprint": fingerprint, "random": torch.get_rng_state()}
    if torch.cuda.is_available():
        content["random_cuda"] = torch.cuda.get_rng_state()
    write_checkpoint(path, content)


def read_training_state(path: Path, fit: Any, fingerprint: str) -> bool:
    """Bring a training to the state in a file; return False where there is none of this fingerprint."""
    if not path.exists():
        return False
    try:
        content = read_checkpoint(path)
    except UserError:
        return False
    if content.get("fingerprint") != fingerprint:
        return False
    if (queue := content["loss"].get("image_queue")) is not None:
        fit.loss.prepare_queue(queue.shape[1], queue.device)
    for name in _MODULES:
        if getattr(fit, name) is not None:
            getattr(fit, name).load_state_dict(content[name])
    for name in _VALUES:
        setattr(fit, name, content[name])
    torch.set_rng_state(content["random"])
    if "random_cuda" in content and torch.cuda.is_available():
        torch.cuda.set_rng_state(content["random_cuda"])
    return True
