"""The two encoders of the demo, fitted on scenes of their own when they are opened."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn
import torch
from PIL import Image
from torch import Tensor

from frozenalign.demo.encoders import fit_image_encoder, fit_text_encoder
from frozenalign.demo.samples import UNSEEN, describe_scenes, draw_scenes, sample_scenes
from frozenalign.demo.scenes import CAPTION_STYLES, PICTURE_SIZE
from frozenalign.encoders.registry import register_encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError, quoted

SCENES = 1200


@register_encoder("demo")
class DemoEncoder:
    """Small encoders of pictures by pixels, colours and edges, and of texts by their words; name: scenes.

    `revision` is the seed of the scenes that they are fitted on.
    """

    def __init__(self, settings: EncoderSettings, modality: str, device: torch.device) -> None:
        """Fit the encoder of one modality; the device is not used."""
        self.modality, seed = modality, _seed(settings)
        self.size = (settings.image_size or PICTURE_SIZE,) * 2
        scenes = sample_scenes(seed, UNSEEN, SCENES)
        if modality == "image":
            self.fitted = fit_image_encoder(draw_scenes(scenes), seed)
        else:
            self.fitted = fit_text_encoder(describe_scenes(seed, UNSEEN, scenes, len(CAPTION_STYLES)), seed)

    def encode(self, items: Sequence[Image.Image] | Sequence[str]) -> Tensor:
        """Return the rows (n, 256) float32 of n pictures or texts."""
        if self.modality == "image":
            items = np.stack([np.asarray(picture.resize(self.size)) for picture in items])
        return torch.from_numpy(self.fitted.encode(items))

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of words of each text."""
        return [len(text.split()) for text in texts]

    def facts(self) -> dict[str, Any]:
        """Return the scenes that the encoder was fitted on, and the versions of what fitted it."""
        return {"fitted_on_scenes": SCENES, "scikit-learn": sklearn.__version__, "numpy": np.__version__}


def _seed(settings: EncoderSettings) -> int:
    revision = settings.revision or "0"
    if not revision.isdecimal():
        raise UserError(f"the encoder {settings.encoder}: revision: found {quoted(revision)}; allowed: a whole number")
    return int(revision)
