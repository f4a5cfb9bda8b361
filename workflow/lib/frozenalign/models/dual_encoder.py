"""The model: two towers of one type with the input statistics of each modality."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.configuration.parameters import HUB_PENALTY_DIMS
from frozenalign.models.heads import Head
from frozenalign.models.hub_penalty import PenalizedTower
from frozenalign.models.linear import Linear
from frozenalign.models.registry import HEADS
from frozenalign.system.errors import UserError, one_line

# Keys of `model` that are not parameters of the head.
COMMON = ("type", "output_dim", "skip", "whitening", "shrinkage", "hub_prototypes", "hub_temperature", "hub_rate")


class Standardize(nn.Module):
    """Subtracts the mean of the training rows and divides by their scale, per dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map raw embeddings (N, dim) to standardised float32 ones (N, dim)."""
        return (x.float() - self.mean).div_(self.scale)


class DualEncoder(nn.Module):
    """Two projection heads that share a type, not weights; `scorer` is set where the head re-ranks.

    It encodes tensors of any device and NumPy arrays, in float32 on the model's device. A row with a NaN becomes a row
    of NaN, and no other row changes.

    model: the `model` section of an experiment.
    """

    def __init__(self, model: Mapping[str, Any], image_dim: int, text_dim: int) -> None:
        super().__init__()
        self.settings = dict(model)
        self.dims = {"image": image_dim, "text": text_dim}
        self.image_statistics, self.text_statistics = Standardize(image_dim), Standardize(text_dim)
        self.image_tower, self.text_tower = _tower(model, image_dim, "image"), _tower(model, text_dim, "text")
        self.scorer = self.traits.pair_scorer()

    @property
    def head(self) -> nn.Module:
        """Return the image tower without what surrounds it; both towers have the same parameters."""
        tower = self.image_tower
        while isinstance(tower, PenalizedTower | TowerBesidePath | WhitenedTower):
            tower = tower.tower
        return tower

    @property
    def traits(self) -> Head:
        """Return what the head needs of training: the defaults for a plain module."""
        return self.head if isinstance(self.head, Head) else Head()

    def encode_images(self, x: Tensor | np.ndarray) -> Tensor:
        """Map raw image embeddings (N, D_image) to unit vectors (N, output_dim), or one (D_image,) to (output_dim,)."""
        return self._encoded(x, "image", self.image_statistics, self.image_tower)

    def encode_texts(self, x: Tensor | np.ndarray) -> Tensor:
        """Map raw text embeddings (N, D_text) to unit vectors (N, output_dim), or one (D_text,) to (output_dim,)."""
        return self._encoded(x, "text", self.text_statistics, self.text_tower)

    def without_hub_penalty(self, vectors: Tensor) -> Tensor:
        """Return unit vectors (N, output_dim) without the dimensions of the penalty for hubs, again of length one.

        These set the modalities apart, wherever their rows lie; without a penalty, the vectors stay as they are.
        """
        if not self.settings.get("hub_prototypes"):
            return vectors
        return unit(vectors[:, :-HUB_PENALTY_DIMS])

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
    """Return whether x is a dense tensor, or an array without a mask, of real numbers."""
    if isinstance(x, Tensor):
        dense = x.layout == torch.strided and not (x.is_nested or x.is_quantized)
        return dense and not x.is_complex() and x.dtype != torch.bool
    return isinstance(x, np.ndarray) and not isinstance(x, np.ma.MaskedArray) and x.dtype.kind in "fiu"


def _kind(x: Any) -> str:
    """Return the type of a value for a message, of a tensor or an array with that of its items."""
    if isinstance(x, Tensor):
        return f"{x.layout} tensor of {x.dtype}".replace("torch.", "")
    return one_line(f"{type(x).__name__} of {x.dtype}") if isinstance(x, np.ndarray) else type(x).__name__


def _as_tensor(x: Tensor | np.ndarray) -> Tensor:
    """Return an array as a float32 tensor, without a copy where PyTorch can use its memory layout."""
    if isinstance(x, Tensor):
        return x
    # A number beyond float32 becomes infinite without a warning, as in a tensor.
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(np.require(x, np.float32, ["C", "W", "E"]))


def _tower(model: Mapping[str, Any], input_dim: int, modality: str) -> nn.Module:
    """Return the tower of one modality, with whitening, skip path and penalty for hubs as configured."""
    parameters = {name: value for name, value in model.items() if name not in COMMON}
    prototypes = model.get("hub_prototypes", 0)
    width = model["output_dim"] - (HUB_PENALTY_DIMS if prototypes else 0)
    tower = HEADS[model["type"]](input_dim, width, **parameters)
    if model.get("whitening", "none") != "none":
        tower = WhitenedTower(tower, input_dim)
    if model.get("skip", "none") != "none":
        tower = TowerBesidePath(tower, input_dim, width)
    if prototypes:
        # Files of models written before there was a rate have none, and need none.
        rate = model.get("hub_rate", 1.0)
        tower = PenalizedTower(tower, model["output_dim"], modality, prototypes, model["hub_temperature"], rate)
    return tower


def unit(x: Tensor) -> Tensor:
    """Scale rows (N, D) to length one, in float32."""
    return functional.normalize(x.float(), dim=-1)


class TowerBesidePath(nn.Module):
    """A linear path plus a gated tower: path(x) + gate * tower(x), one gate for each dimension, zero at first."""

    def __init__(self, tower: nn.Module, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.tower = tower
        self.path = Linear(input_dim, output_dim)
        self.gate = nn.Parameter(torch.zeros(output_dim))

    def with_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, input_dim) to the output (N, output_dim) and the tower's tokens."""
        output, tokens = self.tower.with_tokens(x)
        return self.path(x) + self.gate * output, tokens

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, input_dim) to (N, output_dim)."""
        return self.path(x) + self.gate * self.tower(x)


class WhitenedTower(nn.Module):
    """A tower whose inputs are whitened: every direction of the training rows has the same variance.

    matrix: (input_dim, input_dim), the identity until `training.starts.whiten` fills it.
    """

    def __init__(self, tower: nn.Module, input_dim: int) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("matrix", torch.eye(input_dim))
        self._cast: tuple[tuple[Any, ...], Tensor] | None = None

    def with_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, input_dim) to the output (N, output_dim) and the tower's tokens."""
        return self.tower.with_tokens(self._whitened(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, input_dim) to (N, output_dim)."""
        return self.tower(self._whitened(x))

    def _whitened(self, x: Tensor) -> Tensor:
        """Return x whitened; the matrix in the format of x is kept from step to step, for as long as it is the same."""
        if x.dtype == self.matrix.dtype:
            return functional.linear(x, self.matrix)
        cast_of = (self.matrix.data_ptr(), self.matrix._version, x.dtype)
        if self._cast is None or self._cast[0] != cast_of:
            self._cast = cast_of, self.matrix.to(x.dtype)
        return functional.linear(x, self._cast[1])
