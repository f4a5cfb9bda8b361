"""Texts by a model of transformers: E5-Mistral, BERT and its like, the text towers of SigLIP and CLIP."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from frozenalign.encoders.comparisons import farthest
from frozenalign.encoders.model_files import find_folder, opening
from frozenalign.encoders.pooling import POOLINGS
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.encoders.siglip_tokens import SIGLIP, as_trained
from frozenalign.encoders.text_tokens import TextTokens
from frozenalign.encoders.transformers_layers import asked_for, hidden_rows, refuse_unknown_layer
from frozenalign.encoders.transformers_models import import_transformers, open_model, pooled, versions
from frozenalign.system.errors import UserError

POOLED = "pooled"


class TransformersTexts:
    """A text model, or the text tower of a model of both modalities, whose default `pooling` is pooled."""

    def __init__(self, settings: EncoderSettings, device: torch.device) -> None:
        import_transformers()
        self.settings, self.device = settings, device
        self.files = find_folder(settings)
        self.model = open_model(settings, self.files, device)
        self.tower = getattr(self.model, "get_text_features", self.model)
        self.pooling = self._pooling()
        refuse_unknown_layer(settings, self.pooling, self.model)
        self.tokens = TextTokens(settings, self._tokenizer, self._longest())

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the rows (n, D) of n texts, float32."""
        return self._encode_padded(texts, "right")

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before it is cut, prompt and special tokens counted."""
        return self.tokens.lengths(texts)

    def facts(self) -> dict[str, Any]:
        """Return what decides the rows beside the settings."""
        return {
            "model": type(self.model).__name__,
            "commit": self.files.commit,
            "weights": self.files.weights_hash,
            "pooling": self.pooling,
            "prompt": self.settings.prompt,
            "max_length": self.tokens.max_length,
            "tokenizer": type(self.tokens.tokenizer).__name__,
            "dtype": self.settings.dtype,
            "versions": versions("transformers", "tokenizers"),
        }

    def own_checks(self, texts: Sequence[str], tolerance: float) -> list[str]:
        """Return what was found of the ends of texts and of padding, where the last token is the row."""
        if self.pooling != "last_token":
            return []
        distance = farthest(self.encode(texts), self._encode_padded(texts, "left"))
        if not distance <= tolerance:
            raise UserError(
                f"encoder {self.settings.encoder}: padded on the left, rows differ by {distance:.1g} (1 - cosine) "
                f"from those padded on the right, {tolerance:.0e} is allowed: set `dtype: bfloat16` or float32"
            )
        last = self.tokens.tokenizer.eos_token
        return [f"every text ends with {last}", f"padding left or right: rows differ by {distance:.1g} (1 - cosine)"]

    def _encode_padded(self, texts: Sequence[str], side: str) -> Tensor:
        inputs, mask = self.tokens.batch(texts, side)
        inputs = {name: values.to(self.device) for name, values in inputs.items()}
        with torch.inference_mode():
            output = self.tower(**inputs, **asked_for(self.settings))
            if self.pooling == POOLED:
                rows = pooled(output, self.settings)
            else:
                rows = POOLINGS[self.pooling](hidden_rows(output, self.settings), mask.to(self.device))
        return rows.float().cpu()

    def _pooling(self) -> str:
        if self.settings.pooling is None and self.tower is self.model:
            raise UserError(
                f"encoder {self.settings.encoder}: pooling: {self.settings.name} does not say how its tokens become "
                "one row: set mean, cls or last_token, whichever it was trained with"
            )
        return self.settings.pooling or POOLED

    def _tokenizer(self, **ends: bool) -> Any:
        with opening(self.settings, self.files):
            tokenizer = import_transformers().AutoTokenizer.from_pretrained(
                self.files.path, local_files_only=True, **ends
            )
        return as_trained(tokenizer) if self.model.config.model_type.startswith(SIGLIP) else tokenizer

    def _longest(self) -> int | None:
        config = getattr(self.model.config, "text_config", self.model.config)
        return getattr(config, "max_position_embeddings", None)
