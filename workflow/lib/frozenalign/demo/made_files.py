"""The demo data of a folder, told from a user's files of the same names by a record of their hashes."""

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
    """Refuse a folder with files in the places of demo data that demo_data has not written.

    known: a JSON file that keeps the hashes of large files.
    """
    foreign = foreign_files(Path(folder), known)
    if foreign:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        shown = f"{', '.join(one_line(name) for name in foreign[:SHOWN])}{more}"
        raise UserError(f"{folder} holds {shown}, which demo_data has not written and would replace: {remedy}")


def foreign_files(folder: Path, known: Path | None = None) -> list[str]:
    """Return the names of files in the places of demo data whose content the record there does not list."""
    # The record is read last: a running demo_data deletes old files before it writes it, and adds new ones after.
    found = _stamps(folder)
    record = _record(folder)
    return [name for name, stamp in found.items() if not _is_own(folder, name, stamp, record, known)]


def write_made(folder: Path, contents: Mapping[str, bytes], remedy: str) -> None:
    """Write demo data, bytes by their names below a folder, in place of earlier ones; other files are refused.

    If the writer is killed, the record lists every file that it has written.
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
    """Return the stamp of every file in the places of demo data, by its name below the folder."""
    places, pictures = {name: folder / name for name in ROW_FILES}, folder / PICTURES
    if pictures.is_symlink() or not pictures.is_dir():
        places[PICTURES] = pictures
    else:
        with contextlib.suppress(FileNotFoundError):
            finished = (path for path in pictures.iterdir() if not path.name.startswith(UNFINISHED))
            places |= {f"{PICTURES}/{path.name}": path for path in finished if path.name != FOLDER_TIME}
    stamps = {}
    for name, path in places.items():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            stamps[name] = file_stamp(path.lstat())
    return stamps


def _is_own(folder: Path, name: str, stamp: tuple[int, ...], record: Mapping[str, dict], known: Path | None) -> bool:
    """Return whether the record lists a file with its content, or the file has been deleted since it was found."""
    sha256, path = record["sha256"].get(name), folder / name
    if sha256 and record["stamps"].get(name) == list(stamp):
        return True
    try:
        return remembered_hash(path, known) == sha256 or not os.path.lexists(path)
    except (UserError, OSError):
        return False


def _record(folder: Path) -> dict[str, dict]:
    """Return the SHA-256 and the stamp of each file by its name; an unreadable record lists none."""
    record: dict[str, dict] = {"sha256": {}, "stamps": {}}
    with contextlib.suppress(UserError, OSError):
        content = read_json(folder / RECORD, RECORD_BYTES)
        if isinstance(content, dict):
            record |= {key: part for key, part in content.items() if isinstance(part, dict)}
    return record


def _write_record(folder: Path, hashes: Mapping[str, str], stamps: Mapping[str, tuple[int, ...]]) -> None:
    write_text(folder / RECORD, json.dumps({"sha256": hashes, "stamps": stamps}) + "\n")
