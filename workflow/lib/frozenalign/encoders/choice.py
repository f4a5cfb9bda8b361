"""The encoders that a run names, checked before its first job; read without PyTorch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frozenalign.configuration.runs import settings_file
from frozenalign.encoders.settings import EncoderSettings, load_encoder
from frozenalign.system.errors import UserError


def checked_encoder(
    encoder: str,
    modality: str,
    folders: Sequence[Path],
    changes: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> tuple[Path, EncoderSettings]:
    """Return the file and the settings of an encoder of a modality, from the first `config` folder that has it.

    changes: keys of the file that the encoding of this name changes.
    """
    path = settings_file("encoders", encoder, folders)
    settings = load_encoder(path, changes, name)
    if not settings.encodes(modality):
        raise UserError(f"{path} is an encoder of {settings.modality}s: name one of {modality}s, or of both")
    return path, settings
