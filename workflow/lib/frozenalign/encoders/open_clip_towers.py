"""Pictures and texts by a model of open_clip."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from frozenalign.encoders.ahead import computed_ahead
from frozenalign.encoders.model_files import find_folder, opening
from frozenalign.encoders.registry import Encoder, register_encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.encoders.transformers_models import versions
from frozenalign.system.errors import UserError
from frozenalign.system.optional_libraries import imported

# It needs the torchvision of the same release and build as PyTorch, which no pinned file can name for every machine.
INSTALL = "pip install open_clip_torch torchvision"
PRECISIONS = {"float32": "fp32", "bfloat16": "pure_bf16", "float16": "pure_fp16"}


class OpenClipTower:
    """A model of open_clip: its name is a repository that has open_clip_config.json, or the folder of one."""

    def __init__(self, settings: EncoderSettings, device: torch.device) -> None:
        self.library = imported("open_clip", INSTALL)
        if settings.pooling not in (None, "pooled"):
            raise UserError(
                f"encoder {settings.encoder}: pooling: open_clip pools as the model was trained: leave it out"
            )
        settings.refuse_layer()
        self.settings, self.device = settings, device
        self.dtype = getattr(torch, settings.dtype)
        self.files = find_folder(settings)
        self.name = f"local-dir:{self.files.path}"
        with opening(settings, self.files):
            self.model, self.transform = self.library.create_model_from_pretrained(
                self.name, precision=PRECISIONS[settings.dtype], device=str(device)
            )
        self.model = self.model.eval().requires_grad_(False)

    def facts(self) -> dict[str, Any]:
        """Return what decides the rows beside the settings."""
        return {
            "model": type(self.model).__name__,
            "commit": self.files.commit,
            "weights": self.files.weights_hash,
            "dtype": self.settings.dtype,
            "versions": versions("open_clip", "torchvision", "PIL"),
        }


class OpenClipPictures(OpenClipTower):
    """The vision tower, projected."""

    def encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the rows (n, D) of n RGB pictures, float32."""
        each = computed_ahead(self.transform, pictures, self.settings.threads, len(pictures))
        pixels = torch.stack(list(each)).to(self.device, self.dtype)
        with torch.inference_mode():
            return self.model.encode_image(pixels).float().cpu()

    def facts(self) -> dict[str, Any]:
        """Return what decides the rows beside the settings."""
        return super().facts() | {"processor": " ".join(str(self.transform).split())}


class OpenClipTexts(OpenClipTower):
    """The text tower, projected; every text is filled up to the model's number of tokens."""

    def __init__(self, settings: EncoderSettings, device: torch.device) -> None:
        super().__init__(settings, device)
        with opening(settings, self.files):
            self.tokenizer = self.library.get_tokenizer(self.name, context_length=settings.max_length)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the rows (n, D) of n texts, float32."""
        ids = self.tokenizer(self._prompted(texts)).to(self.device)
        with torch.inference_mode():
            return self.model.encode_text(ids).float().cpu()

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before it is cut, prompt and special tokens counted."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is not None:
            return [len(ids) for ids in inner(self._prompted(texts), truncation=False)["input_ids"]]
        return [len(self.tokenizer.encode(text)) + 2 for text in self._prompted(texts)]

    def facts(self) -> dict[str, Any]:
        """Return what decides the rows beside the settings."""
        return super().facts() | {"prompt": self.settings.prompt, "max_length": self.tokenizer.context_length}

    def _prompted(self, texts: Sequence[str]) -> list[str]:
        return [f"{self.settings.prompt or ''}{text}" for text in texts]


TOWERS = {"image": OpenClipPictures, "text": OpenClipTexts}


@register_encoder("open_clip_torch")
def open_open_clip(settings: EncoderSettings, modality: str, device: torch.device) -> Encoder:
    """Open a model of open_clip for pictures or for texts."""
    return TOWERS[modality](settings, device)
