"""An exported model as mteb takes encoders: the protocol `EncoderProtocol` of its release 2."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozenalign.models.dual_encoder import unit
from frozenalign.serving.encoded_model import EncodedModel
from frozenalign.system.errors import UserError
from frozenalign.system.optional_libraries import imported

MODALITIES = ("image", "text")


class MtebEncoder:
    """The encoder that `mteb.evaluate` takes; prompts of a task are left out, as `prompt` of an encoder is recorded."""

    def __init__(
        self, model_name: str | Path, revision: str | None = None, *, device: str | None = None, **_: Any
    ) -> None:
        """Read an exported folder, model_name; revision: not used."""
        self.model = EncodedModel.from_pretrained(model_name, device or "auto")

    def encode(self, inputs: Iterable[Mapping[str, Any]], **_: Any) -> Tensor:
        """Return the unit vectors (N, D), on the CPU, of batches with pictures under `image` or texts under `text`."""
        width = self.model.model.width
        return torch.cat([torch.empty(0, width), *(self._encoded(batch).cpu() for batch in inputs)])

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Return the cosines (N, M) of vectors (N, D) and (M, D)."""
        first, second = (unit(torch.atleast_2d(torch.as_tensor(each))) for each in (embeddings1, embeddings2))
        return first @ second.T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Return the cosines (N,) of the rows of vectors (N, D) and (N, D)."""
        first, second = (unit(torch.atleast_2d(torch.as_tensor(each))) for each in (embeddings1, embeddings2))
        return (first * second).sum(-1)

    @property
    def mteb_model_meta(self) -> Any:
        """Return what mteb notes of the model beside its scores."""
        meta = imported("mteb.models.model_meta", "pip install mteb")
        model = self.model.model
        name = "-".join(part for part in (model.facts["dataset"], model.facts["experiment"]) if part)
        return meta.ModelMeta.create_empty(
            overwrites={
                "name": f"frozenalign/{name}",
                "revision": model.facts["model_sha256"],
                "modalities": list(MODALITIES),
                "embed_dim": model.width,
                "n_parameters": sum(each.numel() for each in model.model.parameters()),
                "framework": ["PyTorch"],
                "similarity_fn_name": meta.ScoringFunction.COSINE,
            }
        )

    def _encoded(self, batch: Mapping[str, Any]) -> Tensor:
        found = [modality for modality in MODALITIES if modality in batch]
        if len(found) != 1:
            raise UserError(
                f"a batch of mteb holds {' and '.join(found) or 'neither pictures nor texts'} where this model takes "
                "either pictures or texts: leave this task out"
            )
        encode = {"image": self.model.encode_images, "text": self.model.encode_texts}[found[0]]
        return encode(list(batch[found[0]]))
