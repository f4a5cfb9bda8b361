"""The settings of a frozen encoder, read from its YAML file; read without PyTorch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.registrations import encoders
from frozenalign.configuration.schemas import read_schema, validated
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.system.errors import UserError, quoted

BOTH = "both"
WITHOUT_EFFECT = ("encoder", "modality", "description", "threads", "memory")


@dataclass(frozen=True)
class EncoderSettings:
    """The settings of an encoder; encoder.schema.yaml describes each field. encoder: the name of its file."""

    encoder: str
    modality: str
    library: str
    name: str
    width: int
    revision: str | None
    pooling: str | None
    prompt: str | None
    max_length: int | None
    padding: str
    dtype: str
    batch_size: int
    image_size: int | None
    processor: str | None
    description: str = ""
    threads: int = 4
    memory: float = 4.0
    layer: int | None = None

    def decisive(self) -> dict[str, Any]:
        """Return the settings that decide the rows, without the name of the file and what a job asks for."""
        return {name: value for name, value in asdict(self).items() if name not in WITHOUT_EFFECT}

    def encodes(self, modality: str) -> bool:
        """Return whether the encoder has a tower for a modality, image or text."""
        return self.modality in (modality, BOTH)

    def refuse_layer(self) -> None:
        """Refuse `layer`, for an encoder that gives the rows of its last one alone."""
        if self.layer is not None:
            raise UserError(
                f"encoder {self.encoder}: layer: {self.library} gives the rows of the last layer alone: leave it out"
            )


def load_encoder(path: Path, changes: Mapping[str, Any] | None = None, name: str | None = None) -> EncoderSettings:
    """Read and check one file of config/encoders/, with some of its keys changed; name: that of the encoding then."""
    schema = read_schema("encoder")
    content = read_yaml(path)
    where = f"{path}, changed by {'the encoding ' + name if name else '--changes'}" if changes else str(path)
    document = validated(content | changes if changes and isinstance(content, dict) else content, schema, where)
    if document["library"] not in encoders():
        allowed = ", ".join(sorted(encoders()))
        raise UserError(f"{path}: library: found {quoted(document['library'])}; allowed: {allowed}")
    return EncoderSettings(encoder=name or path.stem, **document)
