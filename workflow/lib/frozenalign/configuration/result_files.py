"""Files of finished steps, read and checked against the schema of their name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.configuration.schemas import read_schema, validated
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import read_arrays, read_json

RUN_AGAIN = "delete the file and run the step that writes it again"


def read_result(path: Path, kind: str | None = None) -> Any:
    """Read a file of a finished step; one that violates `results.schema.yaml` is a UserError with key and remedy.

    kind: the name that the step gives the file, if a user may have renamed it.
    """
    kind = kind or path.name
    content = read_yaml(path) if path.suffix == ".yaml" else read_json(path)
    schema = read_schema("results")["properties"][kind]
    expected = schema["properties"]["format"]["const"]
    found = content.get("format", "none") if isinstance(content, Mapping) else "none"
    if type(found) is not int or found != expected:
        raise UserError(f"{path} has the format {quoted(found)}, this version reads {expected}: {_remedy(path, kind)}")
    try:
        json.dumps(content, ensure_ascii=False).encode()
        return validated(content, schema, str(path))
    except UnicodeEncodeError as error:
        raise UserError(f"{path} holds half a character, a lone surrogate: {_remedy(path, kind)}") from error
    except UserError as error:
        raise UserError(f"{error}; {_remedy(path, kind)}") from error


def _remedy(path: Path, kind: str) -> str:
    """Return what to do about a file; one of another name is the user's own, and not to be deleted."""
    return RUN_AGAIN if path.name == kind else f"give the path of a {kind}"


def checked_facts(facts: Any, path: Path, kind: str = "best_model.pt") -> dict[str, Any]:
    """Return the facts in a binary file, such as the experiment of a saved model, if they are complete.

    kind: the name that the step gives the file.
    """
    try:
        return validated(facts, read_schema("results")["properties"][f"facts of {kind}"], f"{path}: facts")
    except UserError as error:
        raise UserError(f"{error}; {_remedy(path, kind)}") from error


def read_ranks(path: Path, images: int, captions: int, rankings: Sequence[str]) -> dict[str, np.ndarray]:
    """Read ranks.npz, 0-based: t2i and caption_image (captions,), i2t (images,), KEY_t2i and KEY_i2t for `rankings`."""
    arrays = read_arrays(path)
    expected = {"caption_image": (captions, images)}
    for prefix in ("", *(f"{key}_" for key in rankings)):
        expected |= {f"{prefix}t2i": (captions, images), f"{prefix}i2t": (images, captions)}
    refuse_wrong_numbers(path, arrays, expected)
    return arrays


def refuse_wrong_numbers(path: Path, arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, int]]) -> None:
    """Raise UserError unless the arrays hold whole numbers from zero; expected: their length and bound by name."""
    for name, (length, bound) in expected.items():
        values = arrays.get(name)
        if values is None or values.shape != (length,) or values.dtype.kind not in "iu":
            raise UserError(f"{path}: {name} does not hold {length} whole numbers: {RUN_AGAIN}")
        if (wrong := np.flatnonzero((values < 0) | (values >= bound))).size:
            raise UserError(f"{path}: {name}[{wrong[0]}] is {values[wrong[0]]}, not from 0 to {bound - 1}: {RUN_AGAIN}")
