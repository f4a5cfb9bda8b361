"""The record beside embeddings that read_embeddings has written, which tells them from a user's own files."""

from collections.abc import Mapping
from pathlib import Path

from frozenalign.system.errors import UserError
from frozenalign.system.files import write_json

RECORD = "read_embeddings.json"
FORMAT = 1
NAMES = "*2017_*"


def refuse_foreign(folder: Path, remedy: str) -> None:
    """Refuse a folder that holds embeddings or metadata of the default names which this step has not written."""
    if (folder / RECORD).is_file():
        return
    if own := sorted(path.name for path in folder.glob(NAMES)):
        raise UserError(f"{folder} holds {own[0]}, which read_embeddings has not written and would replace: {remedy}")


def write_record(folder: Path, hashes: Mapping[str, Mapping[str, str]]) -> None:
    """Record from which files, by set, part and name, the default form is made; to be written before it."""
    sources = {f"{prefix}/{name}": sha256 for prefix, files in hashes.items() for name, sha256 in files.items()}
    write_json(folder / RECORD, {"format": FORMAT, "sources": sources})
