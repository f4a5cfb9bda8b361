"""Encoders from the library transformers, by modality."""

import torch

from frozenalign.encoders.registry import Encoder, register_encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.encoders.transformers_pictures import TransformersPictures
from frozenalign.encoders.transformers_texts import TransformersTexts

TOWERS = {"image": TransformersPictures, "text": TransformersTexts}


@register_encoder("transformers")
def open_transformers(settings: EncoderSettings, modality: str, device: torch.device) -> Encoder:
    """Open a model of transformers for pictures or for texts."""
    return TOWERS[modality](settings, device)
