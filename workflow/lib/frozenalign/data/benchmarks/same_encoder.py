"""Whether an evaluation set was encoded as the data that a head was trained on, by encoding.json of both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozenalign.data.encoding import read_encoding
from frozenalign.system.errors import UserError, quoted

# What decides rows; the number format and the device change only their last bits.
DECISIVE = ("library", "name", "revision", "pooling", "prompt", "layer", "image_size", "max_length")


def encoder_doubts(folder: Path, hashes: Mapping[str, str], trained: Mapping[str, Any] | None) -> list[str]:
    """Return a warning if it is unknown what encoded a set or the data of the head; another encoder is a UserError.

    hashes: SHA-256 of the set's files by name. trained: `encoding` of the split's manifest.
    """
    own = read_encoding(folder, hashes)
    if own is None or trained is None:
        whose = f"{folder}" if own is None else "the training data"
        return [
            f"what encoded {whose} is unknown: the numbers hold only if it is the same encoders with the same settings"
        ]
    for modality in ("images", "texts"):
        # Manifests of earlier versions lack the last three.
        for key in (key for key in DECISIVE if key in trained[modality]):
            if (found := own[modality][key]) != (expected := trained[modality][key]):
                raise UserError(
                    f"{folder}: its {modality} were encoded with {key} {quoted(found)}, those that the head was "
                    f"trained on with {quoted(expected)}: encode the set with {trained[modality]['encoder']}"
                )
    return []
