"""The two encoders of the demo, fitted on scenes of their own when they are opened."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn
import torch
from PIL import Image
from torch import Tensor

from frozenalign.demo.encoders import THUMBNAIL, fit_image_encoder, fit_text_encoder
from frozenalign.demo.samples import UNSEEN, describe_scenes, draw_scenes, sample_scenes
from frozenalign.demo.scenes import CAPTION_STYLES, PICTURE_SIZE, Scene, Shape, draw_scene
from frozenalign.encoders.check_samples import Samples
from frozenalign.encoders.registry import register_encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError, quoted

SCENES = 1200
TRIPLES = ((0, 1, 2), (2, 3, 4), (4, 5, 0))
LOOKS = (
    ("red", "circle", "large", 1, 1, "cream"),
    ("blue", "star", "medium", 0, 2, "mint"),
    ("green", "square", "small", 2, 0, "lavender"),
)
CAPTIONS = (
    "A large red circle in the middle.",
    "There is a big red disc in the middle.",
    "A blue star near the top.",
    "A star and it is blue, in the top right corner, against a mint backdrop.",
    "A small green square.",
    "A little green box at the lower left.",
)


@register_encoder("demo")
class DemoEncoder:
    """Small encoders of pictures by pixels, colours and edges, and of texts by their words; name: scenes.

    `revision` is the seed of the scenes that they are fitted on.
    """

    def __init__(self, settings: EncoderSettings, modality: str, device: torch.device) -> None:
        """Fit the encoder of one modality; the device is not used."""
        settings.refuse_layer()
        self.modality, seed = modality, _seed(settings)
        self.size = (_image_size(settings),) * 2
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

    def samples(self) -> Samples:
        """Return pictures or captions of three scenes, two of each that differ a little."""
        if self.modality == "text":
            return Samples(CAPTIONS, TRIPLES)
        wobbles = ((0.0, 0.0, 0.0, 0.0), (0.3, -0.2, 0.1, 0.1))
        scenes = [Scene((Shape(*look, wobble),), tint) for *look, tint in LOOKS for wobble in wobbles]
        return Samples(tuple(Image.fromarray(draw_scene(scene)) for scene in scenes), TRIPLES)

    def facts(self) -> dict[str, Any]:
        """Return the scenes that the encoder was fitted on, and the versions of what fitted it."""
        return {"fitted_on_scenes": SCENES, "scikit-learn": sklearn.__version__, "numpy": np.__version__}


def _image_size(settings: EncoderSettings) -> int:
    size = settings.image_size or PICTURE_SIZE
    if size % THUMBNAIL:
        raise UserError(
            f"the encoder {settings.encoder}: image_size: found {size}; allowed: a multiple of {THUMBNAIL}, such as "
            f"{PICTURE_SIZE}"
        )
    return size


def _seed(settings: EncoderSettings) -> int:
    revision = settings.revision or "0"
    if not revision.isdecimal():
        raise UserError(f"the encoder {settings.encoder}: revision: found {quoted(revision)}; allowed: a whole number")
    return int(revision)
