"""Pictures by EfficientNet-Lite0, small enough for a laptop; needs PyTorch and the file of its weights alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from frozenalign.encoders.ahead import computed_ahead
from frozenalign.encoders.efficientnet_lite import with_published_weights
from frozenalign.encoders.model_files import find_model, opening
from frozenalign.encoders.registry import register_encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError

SIDE = 224
# Of the original evaluation: a centred square of 224 / 256 of the shorter side, and values around 0.
KEPT = 224 / 256
MEAN, SCALE = 127.0, 128.0


@register_encoder("efficientnet-lite0")
class EfficientNetPictures:
    """EfficientNet-Lite0, the mean of its last features over the picture, 1,280 wide.

    `layer` counts its blocks: the features after them are 32, 16, 24 or more wide.
    """

    def __init__(self, settings: EncoderSettings, modality: str, device: torch.device) -> None:
        if modality != "image":
            raise UserError(f"encoder {settings.encoder}: efficientnet-lite0 has no texts: set `modality: image`")
        self.settings, self.device = settings, device
        self.dtype = getattr(torch, settings.dtype)
        self.files = find_model(settings)
        with opening(settings, self.files):
            state = torch.load(self.files.path, map_location="cpu", weights_only=True)
            network = with_published_weights(state).fuse()
        if settings.layer is not None and settings.layer > len(network.blocks):
            raise UserError(
                f"encoder {settings.encoder}: layer: found {settings.layer}; efficientnet-lite0 has the layers 0 to "
                f"{len(network.blocks)}"
            )
        self.network = network.to(device, self.dtype, memory_format=torch.channels_last)

    def encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the rows (n, 1280) of n RGB pictures, float32."""
        each = computed_ahead(self._squared, pictures, self.settings.threads, len(pictures))
        pixels = np.stack(list(each))
        with torch.inference_mode():
            values = (torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() - MEAN) / SCALE
            return self.network(values.to(self.dtype), self.settings.layer).float().cpu()

    def facts(self) -> dict[str, Any]:
        """Return what decides the rows beside the settings."""
        return {
            "model": type(self.network).__name__,
            "weights": self.files.weights_hash,
            "image_size": self.settings.image_size or SIDE,
            "dtype": self.settings.dtype,
            "versions": {"torch": torch.__version__, "PIL": PIL.__version__},
        }

    def _squared(self, picture: Image.Image) -> np.ndarray:
        return squared(picture, self.settings.image_size or SIDE)


def squared(picture: Image.Image, side: int) -> np.ndarray:
    """Return the centre of an RGB picture as (side, side, 3) uint8, scaled bicubically."""
    kept = min(picture.size) * KEPT
    left, top = ((size - kept) / 2 for size in picture.size)
    scaled = picture.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + kept, top + kept))
    return np.asarray(scaled)
