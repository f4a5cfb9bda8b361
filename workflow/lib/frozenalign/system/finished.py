"""What a step has finished, known again by a fingerprint and kept under second names.

Snakemake deletes the outputs of a job before it starts the job, even if an earlier process of the job has finished
them: after `kill -9` of Snakemake, and in the Snakemake that runs within every job of a cluster.
"""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, read_json, replacing, write_json

logger = logging.getLogger(__name__)
KEPT = ".finished"
RECORD = "record.json"
FORMAT = 1


@dataclass(frozen=True)
class Finished:
    """The files that a step writes to a folder.

    names: their paths below the folder. fingerprint: a hash of everything that decides them.
    """

    folder: Path
    names: tuple[str, ...]
    fingerprint: str

    def again(self) -> str | None:
        """Return what the step found when it last finished; None unless it is this step and every file is intact.

        A file that was deleted or changed since gets back what it held.
        """
        hashes, found = self._recorded()
        paths = {name: self._intact(name, sha256) for name, sha256 in hashes.items()}
        if found is None or None in paths.values():
            return None
        for name, path in paths.items():
            if path != self.folder / name:
                _name_also(path, self.folder / name)
        logger.info("nothing to compute: the same code, settings and data have made what is in %s", self.folder)
        return found

    def keep(self, found: str) -> None:
        """Record that the step has finished, and what it found; where that cannot be written, only warn."""
        kept = self.folder / KEPT
        hashes = {name: file_hash(self.folder / name) for name in self.names}
        try:
            for name in self.names:
                _name_also(self.folder / name, kept / name)
            # Last: without it, or with an earlier one, nothing is taken for finished.
            record = {"format": FORMAT, "fingerprint": self.fingerprint, "files": hashes, "found": found}
            write_json(kept / RECORD, record)
        except UserError as error:
            logger.warning("not recorded as finished: %s", error)

    def _recorded(self) -> tuple[dict[str, str], str | None]:
        """Return the SHA-256 of every file by name and what was found, or nothing if another step was recorded."""
        try:
            record = read_json(self.folder / KEPT / RECORD)
            if (record["format"], record["fingerprint"]) == (FORMAT, self.fingerprint):
                return {name: record["files"][name] for name in self.names}, str(record["found"])
        except (UserError, OSError, LookupError, TypeError):
            pass
        return {}, None

    def _intact(self, name: str, sha256: str) -> Path | None:
        """Return the path, the file's own or its second, at which it still holds what it held."""
        for path in (self.folder / name, self.folder / KEPT / name):
            if path.is_file() and file_hash(path) == sha256:
                return path
        return None


def _name_also(path: Path, other: Path) -> None:
    """Give a file a second name, or a copy where the file system has no hard links; a file of that name is replaced."""
    with replacing(other, needed=path.stat().st_size) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copy2(path, temporary)
