"""Pictures by a model of timm, with the transformation that its files name."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from frozenalign.encoders.ahead import computed_ahead
from frozenalign.encoders.model_files import find_folder, opening
from frozenalign.encoders.pooling import POOLINGS
from frozenalign.encoders.registry import register_encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.encoders.transformers_models import versions
from frozenalign.system.errors import UserError
from frozenalign.system.optional_libraries import imported

# It needs the torchvision of the same release and build as PyTorch, which no pinned file can name for every machine.
INSTALL = "pip install timm torchvision"


@register_encoder("timm")
class TimmPictures:
    """A model of timm without its classifier.

    name: a repository such as timm/vit_base_patch16_224.augreg2_in21k_ft_in1k, or its folder. pooling: `pooled`,
    which is also the default, as the classifier would read it; `cls` the first token; `mean` the patches.
    """

    def __init__(self, settings: EncoderSettings, modality: str, device: torch.device) -> None:
        if modality != "image":
            raise UserError(f"encoder {settings.encoder}: timm has no texts: set `modality: image`")
        timm = imported("timm", INSTALL)
        data = imported("timm.data", INSTALL)
        settings.refuse_layer()
        self.settings, self.device = settings, device
        self.dtype = getattr(torch, settings.dtype)
        self.files = find_folder(settings)
        with opening(settings, self.files):
            model = timm.create_model(f"local-dir:{self.files.path}", pretrained=True, num_classes=0)
        config = data.resolve_model_data_config(model)
        if settings.image_size:
            config["input_size"] = (3, settings.image_size, settings.image_size)
        self.transform = data.create_transform(**config, is_training=False)
        self.model = model.to(device, self.dtype).eval().requires_grad_(False)

    def encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the rows (n, D) of n RGB pictures, float32."""
        each = computed_ahead(self.transform, pictures, self.settings.threads, len(pictures))
        pixels = torch.stack(list(each)).to(self.device, self.dtype)
        with torch.inference_mode():
            whole = self.settings.pooling in (None, "pooled")
            rows = self.model(pixels) if whole else self._of_tokens(self.model.forward_features(pixels))
        return rows.float().cpu()

    def facts(self) -> dict[str, Any]:
        """Return what decides the rows beside the settings."""
        return {
            "model": type(self.model).__name__,
            "commit": self.files.commit,
            "weights": self.files.weights_hash,
            "pooling": self.settings.pooling or "pooled",
            "processor": " ".join(str(self.transform).split()),
            "dtype": self.settings.dtype,
            "versions": versions("timm", "torchvision", "PIL"),
        }

    def _of_tokens(self, hidden: Tensor) -> Tensor:
        before = getattr(self.model, "num_prefix_tokens", 0)
        if (
            hidden.ndim != 3
            or self.settings.pooling not in ("cls", "mean")
            or (self.settings.pooling == "cls" and not before)
        ):
            raise UserError(
                f"encoder {self.settings.encoder}: pooling: {self.settings.name} has no {self.settings.pooling}: "
                "set `pooling: pooled`"
            )
        mask = torch.ones(hidden.shape[:2], device=hidden.device)
        mask[:, :before] = 0
        return POOLINGS[self.settings.pooling](hidden, mask)
