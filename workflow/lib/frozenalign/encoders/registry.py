"""The registry of frozen encoders, named after the libraries that they are from.

A registered encoder is a class, called as Class(settings, modality, device), modality image or text. Only its
constructor imports the library; if that is missing, it raises one UserError with the command that installs it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from frozenalign.configuration.registrations import encoders
from frozenalign.configuration.registry import Registry
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError

ENCODERS = Registry("encoder", encoders)
register_encoder = ENCODERS.register
MODALITIES = ("image", "text")


class Encoder(Protocol):
    """A frozen encoder of one modality, opened."""

    def encode(self, items: Sequence[Image.Image] | Sequence[str]) -> Tensor:
        """Return the rows (n, D) of a whole batch of n pictures or texts, on the CPU."""

    def facts(self) -> dict[str, Any]:
        """Return what decides the rows beside the settings, as plain values: versions, resolved revision and so on."""


class TextEncoder(Encoder, Protocol):
    """A frozen encoder of texts."""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before it is cut, special tokens counted."""


def open_encoder(settings: EncoderSettings, modality: str, device: torch.device) -> Encoder:
    """Open the encoder that settings describe, for image or text."""
    if not settings.encodes(modality):
        raise UserError(f"the encoder {settings.encoder} has no {modality} tower: name another for {modality}s")
    return ENCODERS[settings.library](settings, modality, device)
