"""An exported model as CLIP_benchmark takes models: (model, transform, tokenizer).

Transform and tokenizer are the frozen encoders, which give raw embeddings, and the model is the head.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.encoded_model import EncodedModel

Adapted = tuple["HeadOfRows", Callable[[Image.Image], Tensor], Callable[[Sequence[str]], Tensor]]


class HeadOfRows(nn.Module):
    """The head with the methods that CLIP_benchmark calls; it computes in float32 where autocast is on as well."""

    def __init__(self, model: AlignedModel) -> None:
        super().__init__()
        self.model = model

    def encode_image(self, rows: Tensor) -> Tensor:
        """Map raw image embeddings (N, D_image) to unit vectors (N, D)."""
        with torch.autocast(rows.device.type, enabled=False):
            return self.model.project_images(rows)

    def encode_text(self, rows: Tensor) -> Tensor:
        """Map raw text embeddings (N, D_text) to unit vectors (N, D)."""
        with torch.autocast(rows.device.type, enabled=False):
            return self.model.project_texts(rows)


def adapted(model: EncodedModel) -> Adapted:
    """Return the three that CLIP_benchmark's functions take."""

    def transform(picture: Image.Image) -> Tensor:
        """Return the raw embedding (D_image,) of one picture, which a DataLoader puts into batches."""
        return model.image_encoder.encode([picture])[0]

    def tokenizer(texts: Sequence[str]) -> Tensor:
        """Return the raw embeddings (N, D_text) of texts."""
        return model.text_encoder.encode([texts] if isinstance(texts, str) else texts)

    return HeadOfRows(model.model), transform, tokenizer


def load_exported(
    model_name: str, pretrained: str | Path, cache_dir: str | None = None, device: str | torch.device = "cpu"
) -> Adapted:
    """Load an exported folder with the arguments of CLIP_benchmark's own loaders, for its `TYPE2FUNC`.

    pretrained: the folder. model_name, cache_dir: not used.
    """
    return adapted(EncodedModel.from_pretrained(pretrained, str(device)))
