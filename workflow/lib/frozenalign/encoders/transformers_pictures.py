"""Pictures by a model of transformers: SigLIP, SigLIP 2, CLIP, DINOv2 and whatever else has a vision tower."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from frozenalign.encoders.ahead import computed_ahead
from frozenalign.encoders.model_files import find_folder, opening
from frozenalign.encoders.pooling import POOLINGS
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.encoders.transformers_layers import asked_for, hidden_rows, refuse_unknown_layer
from frozenalign.encoders.transformers_models import import_transformers, open_model, pooled, versions
from frozenalign.system.errors import UserError

# Which processor runs may not depend on whether torchvision happens to be installed: their pixels differ slightly.
PROCESSOR = "pil"
POOLED = "pooled"


class TransformersPictures:
    """The vision tower of a model.

    pooling: `pooled`, which is also the default, takes what the model itself makes of its patches (the attention head
    of SigLIP, the projection of CLIP); `cls` the first token; `mean` the patches without the tokens before them.
    """

    def __init__(self, settings: EncoderSettings, device: torch.device) -> None:
        transformers = import_transformers()
        self.settings, self.device = settings, device
        self.pooling = settings.pooling or POOLED
        if self.pooling not in (POOLED, "cls", "mean"):
            raise UserError(
                f"encoder {settings.encoder}: pooling: {self.pooling} is none for pictures: set pooled, cls or mean"
            )
        self.files = find_folder(settings)
        wanted = settings.processor or PROCESSOR
        with opening(settings, self.files):
            self.processor = transformers.AutoImageProcessor.from_pretrained(
                self.files.path, backend=wanted, local_files_only=True
            )
        # transformers takes the other one, with a warning, where the one asked for is missing.
        if self.processor.backend != wanted:
            raise UserError(
                f"encoder {settings.encoder}: processor: {wanted} is not there for {settings.name}: "
                f"install it, or set `processor: {self.processor.backend}`"
            )
        self.model = open_model(settings, self.files, device)
        self.tower = getattr(self.model, "get_image_features", self.model)
        refuse_unknown_layer(settings, self.pooling, self.model)

    def encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the rows (n, D) of n RGB pictures, float32."""
        inputs = self._prepared(pictures)
        self._hold_size(inputs["pixel_values"])
        inputs = {name: self._moved(values) for name, values in inputs.items()}
        with torch.inference_mode():
            output = self.tower(**inputs, **asked_for(self.settings))
            rows = pooled(output, self.settings) if self.pooling == POOLED else self._of_tokens(output, inputs)
        return rows.float().cpu()

    def facts(self) -> dict[str, Any]:
        """Return what decides the rows beside the settings."""
        return {
            "model": type(self.model).__name__,
            "commit": self.files.commit,
            "weights": self.files.weights_hash,
            "pooling": self.pooling,
            "processor": type(self.processor).__name__,
            "dtype": self.settings.dtype,
            "versions": versions("transformers", "PIL"),
        }

    def _prepared(self, pictures: Sequence[Image.Image]) -> dict[str, Tensor]:
        # One thread prepares some 125 pictures of 384 x 384 a second, a GPU encodes several times as many.
        each = list(computed_ahead(self._prepare, pictures, self.settings.threads, len(pictures)))
        return {name: torch.cat([inputs[name] for inputs in each]) for name in each[0]}

    def _prepare(self, picture: Image.Image) -> Mapping[str, Tensor]:
        return self.processor(images=[picture], return_tensors="pt", input_data_format="channels_last")

    def _moved(self, values: Tensor) -> Tensor:
        kind = self.model.dtype if values.is_floating_point() else values.dtype
        return values.to(self.device, kind)

    def _hold_size(self, pixels: Tensor) -> None:
        size = self.settings.image_size
        if size and pixels.ndim == 4 and pixels.shape[-2:] != (size, size):
            raise UserError(
                f"encoder {self.settings.encoder}: image_size is {size} but {self.settings.name} reads "
                f"{pixels.shape[-1]} x {pixels.shape[-2]} pixels: correct it, or leave it out"
            )

    def _of_tokens(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        hidden = hidden_rows(output, self.settings)
        mask = self._patches(hidden, inputs)
        if self.pooling == "cls" and mask[:, 0].any():
            raise UserError(
                f"encoder {self.settings.encoder}: pooling: {self.settings.name} has no CLS token: "
                "set `pooling: pooled`"
            )
        return POOLINGS[self.pooling](hidden, mask)

    def _patches(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the mask (n, T) of the tokens that are patches: not CLS, no registers, no padding."""
        if "pixel_attention_mask" in inputs:
            return inputs["pixel_attention_mask"]
        config = getattr(self.model.config, "vision_config", self.model.config)
        patch = getattr(config, "patch_size", None)
        if hidden.ndim != 3 or not isinstance(patch, int):
            raise UserError(
                f"encoder {self.settings.encoder}: pooling: {self.settings.name} has no rows of patches: "
                "set `pooling: pooled`"
            )
        height, width = inputs["pixel_values"].shape[-2:]
        before = hidden.shape[1] - (height // patch) * (width // patch)
        mask = torch.ones(hidden.shape[:2], device=hidden.device)
        mask[:, :before] = 0
        return mask
