"""The encoders that a run names, checked before its first job; read without PyTorch."""

from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.runs import settings_file
from frozenalign.encoders.settings import EncoderSettings, load_encoder
from frozenalign.system.errors import UserError


def checked_encoder(name: str, modality: str, folders: Sequence[Path]) -> tuple[Path, EncoderSettings]:
    """Return the file and the settings of an encoder of a modality, from the first `config` folder that has it."""
    path = settings_file("encoders", name, folders)
    settings = load_encoder(path)
    if not settings.encodes(modality):
        raise UserError(f"{path} is an encoder of {settings.modality}s: name one of {modality}s, or of both")
    return path, settings
