"""The model: two towers of one type with the input statistics of each modality, saved and loaded as one file."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from workflow.lib.archives import ArchiveKind, open_archive
from workflow.lib.errors import UserError
from workflow.lib.files import replacing
from workflow.lib.heads import HEADS, TowerBesidePath, WhitenedTower
from workflow.lib.quotation import one_line, quoted

FORMAT = 2
TRAIN_AGAIN = "delete it and train again"
# Whose file it is cannot be told: nobody is to delete embeddings for having named them as a model.
ANOTHER_FILE = f"give the path of a best_model.pt; if this is one, {TRAIN_AGAIN}"
CHECKPOINT = ArchiveKind(
    # The history of a training stands there, which grows with its epochs.
    description_bytes=64 << 20,
    verified=True,
    missing="run the training step first",
    foreign="is damaged or not a model of this project",
    otherwise=ANOTHER_FILE,
)
# Keys of `model` that are no parameters of the head.
COMMON = ("type", "output_dim", "skip", "whitening", "shrinkage")


class Standardize(nn.Module):
    """Subtracts the mean of the training rows and divides by their scale, per dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map raw embeddings (N, dim) to standardised float32 ones (N, dim)."""
        return (x.float() - self.mean) / self.scale


class DualEncoder(nn.Module):
    """Two projection heads that share a type, not weights; `scorer` is set where the head re-ranks.

    Embeddings to encode may be tensors of any device or NumPy arrays; they are computed in float32 on the model's
    device. A row with a NaN becomes a row of NaN, and no other row changes.

    model: the `model` section of an experiment: the keys of every head and the parameters of its type.
    """

    def __init__(self, model: Mapping[str, Any], image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.settings = dict(model)
        self.dims = {"image": image_dim, "text": text_dim}
        self.image_statistics, self.text_statistics = Standardize(image_dim), Standardize(text_dim)
        self.image_tower, self.text_tower = _tower(model, image_dim), _tower(model, text_dim)
        self.scorer = self.head.pair_scorer() if hasattr(self.head, "pair_scorer") else None

    @property
    def head(self) -> nn.Module:
        """Return the image tower itself, without what surrounds it; its parameters are those of both towers."""
        tower = self.image_tower
        while isinstance(tower, TowerBesidePath | WhitenedTower):
            tower = tower.tower
        return tower

    def encode_images(self, x: Tensor | np.ndarray) -> Tensor:
        """Map raw image embeddings (N, D_image) to unit vectors (N, output_dim), or one (D_image,) to (output_dim,)."""
        return self._encoded(x, "image", self.image_statistics, self.image_tower)

    def encode_texts(self, x: Tensor | np.ndarray) -> Tensor:
        """Map raw text embeddings (N, D_text) to unit vectors (N, output_dim), or one (D_text,) to (output_dim,)."""
        return self._encoded(x, "text", self.text_statistics, self.text_tower)

    def _encoded(self, x: Tensor | np.ndarray, modality: str, statistics: Standardize, tower: nn.Module) -> Tensor:
        self._refuse_other_rows(x, modality)
        rows = torch.atleast_2d(_as_tensor(x)).float().to(statistics.mean.device)
        projected = unit(tower(statistics(rows)))
        return projected if x.ndim == 2 else projected[0]

    def _refuse_other_rows(self, x: Any, modality: str) -> None:
        """Refuse all but numbers of shape (N, D) or (D,), D the width of the modality."""
        width = self.dims[modality]
        if not _holds_numbers(x):
            raise UserError(
                f"the model takes {modality} embeddings as numbers in a dense torch tensor or a NumPy array but got "
                f"{_kind(x)}: convert them, for example with np.asarray(x, dtype=np.float32)"
            )
        if x.ndim not in (1, 2):
            raise UserError(
                f"the model takes {modality} embeddings of the shape (N, {width}), or one of ({width},), but got "
                f"{tuple(x.shape)}: reshape them"
            )
        if x.shape[-1] != width:
            raise UserError(
                f"the model takes {modality} embeddings of {width} dimensions but got {x.shape[-1]}: "
                "use the embeddings it was trained on, or train again"
            )


def _holds_numbers(x: Any) -> bool:
    """Say whether x is a dense tensor, or an array without a mask, of real numbers."""
    if isinstance(x, Tensor):
        dense = x.layout == torch.strided and not (x.is_nested or x.is_quantized)
        return dense and not x.is_complex() and x.dtype != torch.bool
    return isinstance(x, np.ndarray) and not isinstance(x, np.ma.MaskedArray) and x.dtype.kind in "fiu"


def _kind(x: Any) -> str:
    """Name the type of a value, of a tensor or an array with that of its items."""
    if isinstance(x, Tensor):
        return f"{x.layout} tensor of {x.dtype}".replace("torch.", "")
    name = type(x).__name__
    return one_line(f"{name} of {x.dtype}") if isinstance(x, np.ndarray) else name


def _as_tensor(x: Tensor | np.ndarray) -> Tensor:
    """Return an array as a float32 tensor, which shares its memory where PyTorch can write and walk through it."""
    if isinstance(x, Tensor):
        return x
    # As in a tensor, a number beyond float32 becomes infinite without a word.
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(np.require(x, np.float32, ["C", "W", "E"]))


def _tower(model: Mapping[str, Any], input_dim: int) -> nn.Module:
    """Return the tower of one modality with what surrounds it."""
    parameters = {name: value for name, value in model.items() if name not in COMMON}
    tower = HEADS[model["type"]](input_dim, model["output_dim"], **parameters)
    if model.get("whitening", "none") != "none":
        tower = WhitenedTower(tower, input_dim)
    if model.get("skip", "none") != "none":
        tower = TowerBesidePath(tower, input_dim, model["output_dim"])
    return tower


def unit(x: Tensor) -> Tensor:
    """Scale rows (N, D) to length one, in float32."""
    return functional.normalize(x.float(), dim=-1)


class MomentumCopy(nn.Module):
    """A copy of a model's towers that follows them slowly: copy = m copy + (1 - m) towers, buffers included."""

    def __init__(self, model: DualEncoder, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.image_tower = copy.deepcopy(model.image_tower).requires_grad_(False)
        self.text_tower = copy.deepcopy(model.text_tower).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: DualEncoder) -> None:
        """Move towards the model's present weights and floating-point buffers; counters are copied."""
        for own, other in ((self.image_tower, model.image_tower), (self.text_tower, model.text_tower)):
            sources = other.state_dict()
            for name, value in own.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(sources[name], 1.0 - self.momentum)
                else:
                    value.copy_(sources[name])


def save_heads(path: str | Path, model: DualEncoder, facts: Mapping[str, Any]) -> None:
    """Write a model with plain facts about it (settings, hashes, epoch) so that `load_heads` needs no other file."""
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    described = {"format": FORMAT, "model": model.settings, "input_dims": model.dims, "facts": dict(facts)}
    write_checkpoint(path, described | {"state": state})


def load_heads(path: str | Path) -> tuple[DualEncoder, dict[str, Any]]:
    """Rebuild a saved model for use and return it with the facts saved beside it.

    It is on the CPU, in evaluation mode, and nothing of it is learned any more: what it computes has no graph.
    """
    content = read_checkpoint(path)
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {quoted(content.get('format'))}, this version reads {FORMAT}: train it again"
        )
    if not isinstance(model := content.get("model"), dict) or not isinstance(head := model.get("type"), str):
        raise UserError(f"{path} does not say which head it holds, it is not a whole model: {TRAIN_AGAIN}")
    if head not in HEADS:
        raise UserError(f"{path} holds the head {quoted(head)}, which is not registered: add it back")
    for key in ("input_dims", "facts", "state"):
        if not isinstance(content.get(key), dict):
            raise UserError(f"{path} has no {key!r}, it is not a whole model: {TRAIN_AGAIN}")
    _refuse_other_state(path, content)
    rebuilt = _rebuilt(content, "cpu")
    rebuilt.load_state_dict(content["state"])
    return rebuilt.requires_grad_(False).eval(), content["facts"]


def _rebuilt(content: Mapping[str, Any], device: str) -> DualEncoder:
    """Build the model of a file, its weights still to come, in float32 on a device, whatever the defaults are now."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device(device):
            return DualEncoder(content["model"], content["input_dims"]["image"], content["input_dims"]["text"])
    finally:
        torch.set_default_dtype(default)


def _refuse_other_state(path: str | Path, content: Mapping[str, Any]) -> None:
    """Refuse settings that make no model, and a state that is not of that model or not finite."""
    try:
        # Without memory for its weights: settings that ask for more than the file holds cost nothing.
        expected = _rebuilt(content, "meta").state_dict()
    except Exception as error:
        raise UserError(
            f"{path} describes a model that cannot be built ({one_line(str(error))}): {TRAIN_AGAIN}"
        ) from error
    state = content["state"]
    for name in [*expected, *state]:
        own = state.get(name)
        if name not in expected or not isinstance(own, Tensor) or own.shape != expected[name].shape:
            raise UserError(f"{path}: the weights {quoted(name)} are not those of its settings: {TRAIN_AGAIN}")
        if own.layout != torch.strided or own.dtype != expected[name].dtype or own.device.type != "cpu":
            raise UserError(f"{path}: the weights {quoted(name)} are not plain {expected[name].dtype}: {TRAIN_AGAIN}")
        if not own.isfinite().all():
            raise UserError(f"{path}: the weights {quoted(name)} are not finite: {TRAIN_AGAIN}")


def write_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically; the same content gives the same bytes."""
    # Given a path, torch.save would write the temporary file's random name into the archive.
    with replacing(path, needed=_tensor_bytes(content)) as temporary, temporary.open("wb") as stream:
        torch.save(dict(content), stream)


def _tensor_bytes(content: Any) -> int:
    """Return the bytes of all tensors in nested mappings and sequences."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        return sum(_tensor_bytes(value) for value in content.values())
    if isinstance(content, list | tuple):
        return sum(_tensor_bytes(value) for value in content)
    return 0


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values; no object is ever unpickled, and tensors are mapped from the file."""
    content, _ = open_archive(Path(path), CHECKPOINT)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a model of this project: {ANOTHER_FILE}")
    return content
