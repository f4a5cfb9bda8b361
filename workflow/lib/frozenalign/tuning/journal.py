"""The trials of a study in a journal file: each operation is a line, appended in turn by processes of any machine."""

import errno
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from frozenalign.system.errors import UserError, one_line
from frozenalign.system.locks import in_turn
from frozenalign.system.refusals import refusals_explained
from frozenalign.tuning.storage import StorageError, Store, patient

PATIENCE_SECONDS = 30.0
CHUNK_BYTES = 64 << 10


@dataclass(frozen=True)
class Journal(Store):
    """A study's journal file.

    patience: seconds after which a process that holds the file is passed over; a killed one holds nothing, a stopped
    one may for hours.
    """

    path: Path
    patience: float = PATIENCE_SECONDS

    def open(self) -> BaseStorage:
        """Return the journal, made if missing; one with a damaged line is refused."""
        try:
            backend = JournalFileBackend(str(self.path), lock_obj=_Turn(self.path, self.patience))
            return patient(self._ask(lambda: JournalStorage(backend)), self._ask)
        except StorageError:
            raise
        except Exception as error:
            # Replaying a damaged line can raise anything.
            raise StorageError(self._damage(error)) from error

    @property
    def removal(self) -> str:
        """The file to delete."""
        return f"delete {self.path}"

    def _ask(self, operation: Callable[[], Any]) -> Any:
        """Return the result of an operation; a disk that refuses it, or a damaged line, is a StorageError."""
        try:
            with refusals_explained(self.path):
                return operation()
        except json.JSONDecodeError as error:
            raise StorageError(self._damage(error)) from error
        except UserError as error:
            raise StorageError(str(error)) from error
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be used ({error.strerror}): check its disk, then run the same command again"
            ) from error

    def _damage(self, error: Exception) -> str:
        reason = one_line(f"{type(error).__name__}: {error}")
        return f"{self.path} is damaged ({reason}): restore a copy, or delete it to begin the study anew"


class _Turn:
    """The turn to append to a journal, which ends with its process; whoever gets it cuts what a dead one left."""

    def __init__(self, path: Path, patience: float) -> None:
        self._path, self._lock, self._patience = path, path.with_suffix(".journal.lock"), patience
        self._held = ExitStack()

    def acquire(self) -> bool:
        """Wait for the turn."""
        if not self._held.enter_context(in_turn(self._lock, self._patience)):
            self._held.close()
            raise OSError(errno.ENOLCK, "this file system has no locks, keep the trials in a database server")
        cut_torn_line(self._path)
        return True

    def release(self) -> None:
        """Let the next one append."""
        self._held.close()


def cut_torn_line(path: Path) -> None:
    """Cut what follows the last line of a file: a process that was killed while it wrote has not ended its line."""
    with path.open("r+b") as stream:
        end = kept = stream.seek(0, 2)
        while kept:
            begin = max(0, kept - CHUNK_BYTES)
            stream.seek(begin)
            newline = stream.read(kept - begin).rfind(b"\n")
            if newline >= 0:
                kept = begin + newline + 1
                break
            kept = begin
        if kept < end:
            stream.truncate(kept)
