"""The settings of a frozen encoder, read from its YAML file; read without PyTorch."""

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

    def decisive(self) -> dict[str, Any]:
        """Return the settings that decide the rows, without the name of the file and what a job asks for."""
        return {name: value for name, value in asdict(self).items() if name not in WITHOUT_EFFECT}

    def encodes(self, modality: str) -> bool:
        """Return whether the encoder has a tower for a modality, image or text."""
        return self.modality in (modality, BOTH)


def load_encoder(path: Path) -> EncoderSettings:
    """Read and check one file of config/encoders/."""
    schema = read_schema("encoder")
    document = validated(read_yaml(path), schema, str(path))
    if document["library"] not in encoders():
        allowed = ", ".join(sorted(encoders()))
        raise UserError(f"{path}: library: found {quoted(document['library'])}; allowed: {allowed}")
    return EncoderSettings(encoder=path.stem, **document)
