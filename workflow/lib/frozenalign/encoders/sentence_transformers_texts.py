"""Texts by a model of sentence-transformers, whose files say how to pool and whether to normalise."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from frozenalign.encoders.model_files import INSTALL, find_folder, opening
from frozenalign.encoders.registry import register_encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.encoders.transformers_models import import_transformers, versions
from frozenalign.system.errors import UserError
from frozenalign.system.optional_libraries import imported


@register_encoder("sentence-transformers")
class SentenceTransformersTexts:
    """A model of sentence-transformers; its own prompts are left out, `prompt` alone is put before a text."""

    def __init__(self, settings: EncoderSettings, modality: str, device: torch.device) -> None:
        if modality != "text":
            raise UserError(
                f"encoder {settings.encoder}: sentence-transformers is for texts here: set `modality: text`"
            )
        if settings.pooling:
            raise UserError(
                f"encoder {settings.encoder}: pooling: the files of a model of sentence-transformers decide: "
                "leave it out"
            )
        settings.refuse_layer()
        library = imported("sentence_transformers", INSTALL)
        import_transformers()
        self.settings = settings
        self.files = find_folder(settings)
        with opening(settings, self.files):
            self.model = library.SentenceTransformer(
                str(self.files.path),
                device=str(device),
                local_files_only=True,
                model_kwargs={"dtype": getattr(torch, settings.dtype), "use_safetensors": True},
            ).eval()
        if settings.max_length:
            self.model.max_seq_length = settings.max_length

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the rows (n, D) of n texts, float32."""
        rows = self.model.encode(
            list(texts),
            prompt=self.settings.prompt or "",
            batch_size=len(texts),
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return rows.float().cpu()

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before it is cut, prompt and special tokens counted."""
        prompted = [f"{self.settings.prompt or ''}{text}" for text in texts]
        return [len(ids) for ids in self.model.tokenizer(prompted, truncation=False)["input_ids"]]

    def facts(self) -> dict[str, Any]:
        """Return what decides the rows beside the settings."""
        return {
            "model": ", ".join(type(module).__name__ for module in self.model),
            "commit": self.files.commit,
            "weights": self.files.weights_hash,
            "prompt": self.settings.prompt,
            "max_length": self.model.max_seq_length,
            "dtype": self.settings.dtype,
            "versions": versions("sentence_transformers", "transformers", "tokenizers"),
        }
