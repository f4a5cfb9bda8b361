"""A model as one file of tensors and plain values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozenalign.data.archive_records import ArchiveKind
from frozenalign.data.archives import open_archive
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.registry import HEADS
from frozenalign.system.errors import UserError, one_line, quoted
from frozenalign.system.files import replacing

FORMAT = 2
TRAIN_AGAIN = "delete it and train again"
# The file may be something else, such as embeddings, so the advice to delete it comes with a condition.
ANOTHER_FILE = f"give the path of a best_model.pt; if this is one, {TRAIN_AGAIN}"
CHECKPOINT = ArchiveKind(
    # It includes the history of a training, which grows with its epochs.
    description_bytes=64 << 20,
    verified=True,
    missing="run the training step first",
    foreign="is damaged or not a model of this project",
    otherwise=ANOTHER_FILE,
)


def save_heads(
    path: str | Path, model: DualEncoder, facts: Mapping[str, Any], further: Mapping[str, Any] | None = None
) -> None:
    """Write a model with plain facts about it (settings, hashes, epoch) so that `load_heads` needs no other file.

    further: tensors and plain values under further keys, for `load_with`.
    """
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    described = {"format": FORMAT, "model": model.settings, "input_dims": model.dims, "facts": dict(facts)}
    write_checkpoint(path, described | {"state": state} | dict(further or {}))


def load_heads(path: str | Path) -> tuple[DualEncoder, dict[str, Any]]:
    """Rebuild a saved model for use and return it with its facts.

    It is on the CPU, in evaluation mode, and its parameters need no gradients.
    """
    model, facts, _ = load_with(path)
    return model, facts


def load_with(path: str | Path, own_key: str = "") -> tuple[DualEncoder, dict[str, Any], Any]:
    """Return what `load_heads` does, and what was saved under a further key, or None."""
    content = read_checkpoint(path)
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {quoted(content.get('format'))}, this version reads {FORMAT}: train it again"
        )
    return rebuilt_model(path, content, TRAIN_AGAIN), content["facts"], content.get(own_key)


def rebuilt_model(path: str | Path, content: Mapping[str, Any], remedy: str) -> DualEncoder:
    """Return the model, for use, that the keys model, input_dims, facts and state of a file's content describe.

    remedy: what to do about a file that describes none.
    """
    if not isinstance(model := content.get("model"), dict) or not isinstance(head := model.get("type"), str):
        raise UserError(f"{path} names no head, it is not a whole model: {remedy}")
    if head not in HEADS:
        raise UserError(f"{path} holds the head {quoted(head)}, which is not registered: add it back")
    for key in ("input_dims", "facts", "state"):
        if not isinstance(content.get(key), dict):
            raise UserError(f"{path} has no {key!r}, it is not a whole model: {remedy}")
    _refuse_other_state(path, content, remedy)
    rebuilt = _rebuilt(content, "cpu")
    rebuilt.load_state_dict(content["state"])
    return rebuilt.requires_grad_(False).eval()


def _rebuilt(content: Mapping[str, Any], device: str) -> DualEncoder:
    """Return the model of a file with random weights, in float32 on a device, whatever PyTorch's defaults are."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device(device):
            return DualEncoder(content["model"], content["input_dims"]["image"], content["input_dims"]["text"])
    finally:
        torch.set_default_dtype(default)


def _refuse_other_state(path: str | Path, content: Mapping[str, Any], remedy: str) -> None:
    """Refuse settings that make no model, and a state that is not of that model or not finite."""
    try:
        # The meta device allocates nothing, however large the settings are.
        expected = _rebuilt(content, "meta").state_dict()
    except Exception as error:
        raise UserError(f"{path} describes a model that cannot be built ({one_line(str(error))}): {remedy}") from error
    state = content["state"]
    for name in [*expected, *state]:
        own = state.get(name)
        if name not in expected or not isinstance(own, Tensor) or own.shape != expected[name].shape:
            raise UserError(f"{path}: the weights {quoted(name)} are not those of its settings: {remedy}")
        if own.layout != torch.strided or own.dtype != expected[name].dtype or own.device.type != "cpu":
            raise UserError(f"{path}: the weights {quoted(name)} are not plain {expected[name].dtype}: {remedy}")
        if not own.isfinite().all():
            raise UserError(f"{path}: the weights {quoted(name)} are not finite: {remedy}")


def write_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically; the same content gives the same bytes."""
    # Given a path, torch.save would write the temporary file's random name into the archive.
    with replacing(path, needed=_tensor_bytes(content)) as temporary, temporary.open("wb") as stream:
        torch.save(dict(content), stream)


def _tensor_bytes(content: Any) -> int:
    """Return the bytes of all tensors in nested mappings and sequences."""
    if isinstance(content, Tensor):
        return content.nbytes
    values = content.values() if isinstance(content, Mapping) else content
    return sum(map(_tensor_bytes, values)) if isinstance(content, Mapping | list | tuple) else 0


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values, without unpickling objects; tensors are mapped from the file."""
    content, _ = open_archive(Path(path), CHECKPOINT)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a model of this project: {ANOTHER_FILE}")
    return content
