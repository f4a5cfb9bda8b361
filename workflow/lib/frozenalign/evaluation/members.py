"""The trained models that an evaluation is about: one, or the members of an ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.result_files import checked_facts
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.model_file import load_heads


@dataclass(frozen=True)
class Member:
    """A trained model, or a member of an ensemble: its file, and the facts in it."""

    path: Path
    facts: Mapping[str, Any]


def load_members(paths: Sequence[Path]) -> tuple[list[DualEncoder], list[Member]]:
    """Return the models of several files, and what is known of each."""
    loaded = [load_heads(path) for path in paths]
    members = [Member(path, checked_facts(facts, path)) for path, (_, facts) in zip(paths, loaded, strict=True)]
    return [model for model, _ in loaded], members
