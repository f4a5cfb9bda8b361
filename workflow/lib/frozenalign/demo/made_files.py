"""The demo data of a folder, told apart from what somebody else has put in their places."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from frozenalign.system.errors import UserError, one_line
from frozenalign.system.files import UNFINISHED, read_json, remove_unfinished, write_bytes, write_text
from frozenalign.system.fingerprints import file_stamp, remembered_hash

ROW_FILES = ("train2017_image_embeddings.pt", "train2017_text_embeddings.pt", "train2017_metadata.json")
PICTURES = "images"
RECORD = "made_by_demo_data.json"
RECORD_BYTES = 1 << 30
# Snakemake keeps the time of a folder that a rule makes in a file of this name.
FOLDER_TIME = ".snakemake_timestamp"
SHOWN = 3


def refuse_foreign(folder: str | Path, remedy: str, known: Path | None = None) -> None:
    """Refuse a folder in which files stand in the places of demo data that demo_data has not written.

    known: a JSON file that remembers the hashes of large files.
    """
    foreign = foreign_files(Path(folder), known)
    if foreign:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        shown = f"{', '.join(one_line(name) for name in foreign[:SHOWN])}{more}"
        raise UserError(f"{folder} holds {shown}, which demo_data has not written and would replace: {remedy}")


def foreign_files(folder: Path, known: Path | None = None) -> list[str]:
    """Return the names of what stands in the places of demo data and is not, by its content, in the record there."""
    # The record is read last: a demo_data at work takes old files away before it, and brings new ones after it.
    found = _stamps(folder)
    record = _record(folder)
    return [name for name, stamp in found.items() if not _is_own(folder, name, stamp, record, known)]


def write_made(folder: Path, contents: Mapping[str, bytes], remedy: str) -> None:
    """Write demo data, bytes by their names below a folder, in place of earlier ones; what is not such is refused.

    Whenever the writer is killed, the record names whatever of it stands there.
    """
    refuse_foreign(folder, remedy)
    for name in _stamps(folder):
        (folder / name).unlink()
    remove_unfinished(folder / PICTURES)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    _write_record(folder, hashes, {})
    for name, content in contents.items():
        write_bytes(folder / name, content)
    _write_record(folder, hashes, _stamps(folder))


def _stamps(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the stamp of whatever stands in the places of demo data, by its name below the folder."""
    stamps = {}
    for name in ROW_FILES:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            stamps[name] = file_stamp((folder / name).lstat())
    pictures = folder / PICTURES
    if os.path.lexists(pictures) and (pictures.is_symlink() or not pictures.is_dir()):
        return stamps | {PICTURES: file_stamp(pictures.lstat())}
    with contextlib.suppress(FileNotFoundError), os.scandir(pictures) as entries:
        for entry in entries:
            if entry.name != FOLDER_TIME and not entry.name.startswith(UNFINISHED):
                with contextlib.suppress(FileNotFoundError):
                    stamps[f"{PICTURES}/{entry.name}"] = file_stamp(entry.stat(follow_symlinks=False))
    return stamps


def _is_own(folder: Path, name: str, stamp: tuple[int, ...], record: Mapping[str, dict], known: Path | None) -> bool:
    """Say whether a file is in the record with its content, or has gone since it was looked for."""
    sha256, path = record["sha256"].get(name), folder / name
    if sha256 and record["stamps"].get(name) == list(stamp):
        return True
    try:
        return remembered_hash(path, known) == sha256 or not os.path.lexists(path)
    except (UserError, OSError):
        return False


def _record(folder: Path) -> dict[str, dict]:
    """Return the SHA-256 and the stamp of each file by its name; a record that cannot be read knows of none."""
    try:
        content = read_json(folder / RECORD, RECORD_BYTES)
    except (UserError, OSError):
        content = None
    parts = {key: content.get(key) if isinstance(content, dict) else None for key in ("sha256", "stamps")}
    return {key: part if isinstance(part, dict) else {} for key, part in parts.items()}


def _write_record(folder: Path, hashes: Mapping[str, str], stamps: Mapping[str, tuple[int, ...]]) -> None:
    write_text(folder / RECORD, json.dumps({"sha256": hashes, "stamps": stamps}) + "\n")
