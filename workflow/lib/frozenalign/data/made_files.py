"""Files that a step makes in a folder of the user's, told from the user's own by a record of their hashes."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from frozenalign.system.errors import UserError, one_line
from frozenalign.system.files import UNFINISHED, read_json, remove_unfinished, write_bytes, write_text
from frozenalign.system.fingerprints import file_stamp, remembered_hash

ROW_FILES = ("train2017_image_embeddings.pt", "train2017_text_embeddings.pt", "train2017_metadata.json")
RECORD_BYTES = 1 << 30
# Snakemake keeps the time of a folder that a rule makes in a file of this name.
FOLDER_TIME = ".snakemake_timestamp"
SHOWN = 3


@dataclass(frozen=True)
class Places:
    """The places in a folder at which a step makes files.

    step: its name. names: of single files. subfolder: a folder that holds nothing but files of the step. earlier: the
    records of other steps that made files at these places in earlier versions.
    """

    step: str
    names: tuple[str, ...]
    subfolder: str | None = None
    earlier: tuple[str, ...] = ()

    @property
    def record(self) -> str:
        """Return the name of the file that lists what the step has made."""
        return f"made_by_{self.step}.json"

    def refuse_foreign(self, folder: str | Path, remedy: str, known: Path | None = None) -> None:
        """Refuse a folder with files in these places that the step has not written.

        known: a JSON file that keeps the hashes of large files.
        """
        foreign = self.foreign_files(Path(folder), known)
        if foreign:
            more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
            shown = f"{', '.join(one_line(name) for name in foreign[:SHOWN])}{more}"
            raise UserError(f"{folder} holds {shown}, which {self.step} has not written and would replace: {remedy}")

    def foreign_files(self, folder: Path, known: Path | None = None) -> list[str]:
        """Return the names of files in these places whose content no record there lists."""
        # The records are read last: a running step deletes old files before it writes its own, and adds new ones after.
        found = self._stamps(folder)
        records = [_record(folder / name) for name in (self.record, *self.earlier)]
        return [
            name
            for name, stamp in found.items()
            if not any(_is_own(folder, name, stamp, record, known) for record in records)
        ]

    @contextlib.contextmanager
    def replaced(self, folder: Path, remedy: str) -> Iterator[Callable[[Mapping[str, str]], None]]:
        """Let a block write files of the step in place of earlier ones; other files are refused.

        Yields a function of the SHA-256 of every file by its name below the folder, to be called before the first is
        written: if the writer is killed, the record lists every file that it has written.
        """
        self.refuse_foreign(folder, remedy)
        recorded: dict[str, str] = {}

        def begin(hashes: Mapping[str, str]) -> None:
            for name in self._stamps(folder):
                (folder / name).unlink()
            if self.subfolder:
                remove_unfinished(folder / self.subfolder)
            # What an earlier version made in other places stays known as the project's own.
            others = {name: sha256 for name, sha256 in self._recorded(folder).items() if not self._holds(name)}
            recorded.update(others | dict(hashes))
            _write_record(folder / self.record, recorded, {})

        yield begin
        _write_record(folder / self.record, recorded, self._stamps(folder))

    def write(self, folder: Path, contents: Mapping[str, bytes], remedy: str) -> None:
        """Write files, bytes by their names below a folder, in place of earlier ones; other files are refused."""
        with self.replaced(folder, remedy) as begin:
            begin({name: hashlib.sha256(content).hexdigest() for name, content in contents.items()})
            for name, content in contents.items():
                write_bytes(folder / name, content)

    def _recorded(self, folder: Path) -> dict[str, str]:
        return _record(folder / self.record)["sha256"]

    def _holds(self, name: str) -> bool:
        return name in self.names or name.partition("/")[0] == self.subfolder

    def _stamps(self, folder: Path) -> dict[str, tuple[int, ...]]:
        """Return the stamp of every file in these places, by its name below the folder."""
        places = {name: folder / name for name in self.names}
        within = folder / self.subfolder if self.subfolder else None
        if within and (within.is_symlink() or not within.is_dir()):
            places[within.name] = within
        elif within:
            with contextlib.suppress(FileNotFoundError):
                finished = (path for path in within.iterdir() if not path.name.startswith(UNFINISHED))
                places |= {f"{within.name}/{path.name}": path for path in finished if path.name != FOLDER_TIME}
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


def _record(path: Path) -> dict[str, dict]:
    """Return the SHA-256 and the stamp of each file by its name; an unreadable record lists none."""
    record: dict[str, dict] = {"sha256": {}, "stamps": {}}
    with contextlib.suppress(UserError, OSError):
        content = read_json(path, RECORD_BYTES)
        if isinstance(content, dict):
            record |= {key: part for key, part in content.items() if isinstance(part, dict)}
    return record


def _write_record(path: Path, hashes: Mapping[str, str], stamps: Mapping[str, tuple[int, ...]]) -> None:
    write_text(path, json.dumps({"sha256": hashes, "stamps": stamps}) + "\n")
