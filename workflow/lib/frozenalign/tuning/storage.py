"""Where the trials of a study are kept: what all kinds share, and an SQLite file, busy, slow, damaged or full."""

import contextlib
import errno
import logging
import os
import random
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage, get_storage

from frozenalign.system.errors import UserError
from frozenalign.system.refusals import refusal

logger = logging.getLogger(__name__)
# How long a study waits for a busy database in all, and how long SQLite waits in each attempt.
PATIENCE_SECONDS = 120.0
ASKING_SECONDS = 10.0
FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 5.0
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_REFUSED = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS, sqlite3.SQLITE_PERM: errno.EACCES}
FAILURES = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error)


class StorageError(UserError):
    """The study's trials cannot be read or written; the trial under way is not counted."""


class Store(ABC):
    """A place for the trials of a study, which many processes use at the same time.

    patience: seconds after which it is no longer waited for.
    """

    patience: float

    @abstractmethod
    def open(self) -> BaseStorage:
        """Return the place, made if missing, as a storage that waits while it is busy; a damaged one is refused."""

    @property
    @abstractmethod
    def removal(self) -> str:
        """What to do to begin the study anew, as the end of a sentence."""

    def key(self, study: str) -> str:
        """Return the name under which a study is kept here."""
        return study


def patient(storage: BaseStorage, ask: Callable[[Callable[[], Any]], Any]) -> BaseStorage:
    """Return a storage whose operations are those of another, each called by `ask`."""

    def asked(name: str) -> Callable[..., Any]:
        operation = getattr(storage, name)
        return lambda self, *arguments, **options: ask(lambda: operation(*arguments, **options))

    operations = {name: asked(name) for name in BaseStorage.__abstractmethods__}
    return type("PatientStorage", (BaseStorage,), operations)()


def repeated(operation: Callable[[], Any], patience: float, refusal_of: Callable[[Exception, bool], str | None]) -> Any:
    """Return the result of an operation, repeated after growing waits while it is refused for the moment.

    refusal_of: given an error, and whether time is up, returns the sentence to stop with, or None to try again.
    Repeating is safe: every operation of a storage is one transaction, and a refused one was rolled back.
    """
    began = time.monotonic()
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            return operation()
        except FAILURES as error:
            if sentence := refusal_of(error, time.monotonic() - began >= patience):
                raise StorageError(sentence) from error
            logger.debug("the storage is busy: trying again in %.2f s", wait)
        # Two processes that were refused together must not repeat together.
        time.sleep(wait * random.uniform(0.5, 1.0))
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


@dataclass(frozen=True)
class Database(Store):
    """A study's SQLite file.

    patience: seconds after which a busy database is a StorageError.
    """

    path: Path
    patience: float = PATIENCE_SECONDS

    def ask(self, operation: Callable[[], Any]) -> Any:
        """Return the result of an operation, repeated while the database is busy."""
        return repeated(operation, self.patience, self._refusal)

    def open(self) -> BaseStorage:
        """Return the database, made if missing; a damaged one is refused."""
        self.ask(self._refuse_damage)
        # In a URL a question mark would end the path, and Optuna replaces braces.
        url = f"sqlite:///file:{quote(os.fsencode(self.path))}?uri=true"
        options = {"connect_args": {"timeout": min(ASKING_SECONDS, self.patience)}}
        return patient(self.ask(lambda: get_storage(RDBStorage(url, engine_kwargs=options))), self.ask)

    @property
    def removal(self) -> str:
        """The file to delete."""
        return f"delete {self.path}"

    def _refusal(self, error: Exception, time_is_up: bool) -> str | None:
        code = _sqlite_code(error)
        if code in _BUSY and not time_is_up:
            return None
        return self._sentence(code, error)

    def _refuse_damage(self) -> None:
        if not self.path.exists():
            return
        with contextlib.closing(sqlite3.connect(self.path, timeout=min(ASKING_SECONDS, self.patience))) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StorageError(self._damage(found.splitlines()[-1]))

    def _sentence(self, code: int | None, error: Exception) -> str:
        if code in _BUSY:
            return (
                f"{self.path} was locked for {self.patience:.0f} s: close what else uses it (a dashboard, a copy, "
                "another run), then run the same command again; if a network disk is at fault, use a local one"
            )
        reason = str(getattr(error.__cause__ or error, "orig", error)).splitlines()[0]
        if code in _DAMAGED:
            return self._damage(reason)
        if code in _REFUSED:
            return refusal(self.path, _REFUSED[code])
        return (
            f"{self.path} cannot be used ({reason}): check its disk (space, quota, connection) and its permissions, "
            "then run the same command again; if it persists, delete the file, or restore a copy"
        )

    def _damage(self, reason: str) -> str:
        return (
            f"{self.path} is damaged ({reason}): restore a copy, or delete it together with {self.path.name}-journal, "
            "where there is one, to begin the study anew"
        )


def _sqlite_code(error: BaseException | None) -> int | None:
    """Return the primary result code of the first SQLite error among an error and its causes."""
    while error is not None:
        cause = getattr(error, "orig", None) or error
        if isinstance(cause, sqlite3.Error):
            return getattr(cause, "sqlite_errorcode", 0) & 0xFF
        error = error.__cause__ or error.__context__
    return None
