"""An aligned model behind its frozen encoders: pictures and texts in, unit vectors of the common space out."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.query_encoder import QueryEncoder


@dataclass(frozen=True)
class EncodedModel:
    """A model and the encoders that its facts record, each opened when it is first needed.

    where: the folder or file of the model, for messages.
    """

    model: AlignedModel
    where: str

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto") -> "EncodedModel":
        """Read a folder that `export` wrote, of a data set that was encoded here."""
        return cls(AlignedModel.from_pretrained(folder, device), str(folder))

    @functools.cached_property
    def image_encoder(self) -> QueryEncoder:
        """Return the encoder of pictures; one that is not the recorded one is a UserError."""
        return QueryEncoder.of_record(self.model.facts["encoders"], "image", self.model.device, self.where)

    @functools.cached_property
    def text_encoder(self) -> QueryEncoder:
        """Return the encoder of texts; one that is not the recorded one is a UserError."""
        return QueryEncoder.of_record(self.model.facts["encoders"], "text", self.model.device, self.where)

    def encode_images(self, pictures: Sequence[Image.Image | str | Path]) -> Tensor:
        """Map N pictures, or paths of pictures, to unit vectors (N, D), float32."""
        return self.model.project_images(self.image_encoder.encode(pictures))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Map N texts to unit vectors (N, D), float32."""
        return self.model.project_texts(self.text_encoder.encode(texts))
