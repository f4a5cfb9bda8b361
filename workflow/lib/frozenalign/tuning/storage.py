"""Where a study keeps its trials: an SQLite file that may be busy, slow, damaged or on a full disk."""

import abc
import errno
import logging
import os
import random
import sqlite3
import time
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
# How long the study goes on asking a database that others hold, and how long it lets SQLite ask each time.
PATIENCE_SECONDS = 120.0
ASKING_SECONDS = 10.0
FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 5.0
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_REFUSED = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS, sqlite3.SQLITE_PERM: errno.EACCES}
_FAILURES = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error)


class StorageError(UserError):
    """The study's database does not take or give its trials: no fault of a trial, which is not counted."""


@dataclass(frozen=True)
class Database:
    """A study's SQLite file.

    patience: seconds for which a busy one is asked again before a StorageError says that it is locked.
    """

    path: Path
    patience: float = PATIENCE_SECONDS

    def ask(self, operation: Callable[[], Any]) -> Any:
        """Return what an operation returns; repeat it, after growing waits, while SQLite refuses it as busy.

        To repeat is safe: every operation of a storage is one transaction, and a refused one was rolled back.
        """
        began = time.monotonic()
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return operation()
            except _FAILURES as error:
                code = _sqlite_code(error)
                if code not in _BUSY or time.monotonic() - began >= self.patience:
                    raise StorageError(self._sentence(code, error)) from error
                logger.debug("%s is busy: asked again in %.2f s", self.path, wait)
            # Two processes that were refused together must not come back together.
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def open(self) -> BaseStorage:
        """Open the database, making it on first use, as a storage that asks again; a damaged one is refused."""
        self.ask(self._refuse_damage)
        return PatientStorage(self, self.ask(lambda: get_storage(self._rdb_storage())))

    def _rdb_storage(self) -> RDBStorage:
        # In an address a question mark would end the path, and Optuna takes braces for places to fill in.
        url = f"sqlite:///file:{quote(os.fsencode(self.path))}?uri=true"
        timeout = min(ASKING_SECONDS, self.patience)
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": timeout}})

    def _refuse_damage(self) -> None:
        if not self.path.exists():
            return
        connection = sqlite3.connect(self.path, timeout=min(ASKING_SECONDS, self.patience))
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            connection.close()
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
    """Return the primary result code of the SQLite error that an error is or comes from."""
    while error is not None:
        cause = getattr(error, "orig", None) or error
        if isinstance(cause, sqlite3.Error):
            return getattr(cause, "sqlite_errorcode", 0) & 0xFF
        error = error.__cause__ or error.__context__
    return None


class PatientStorage(BaseStorage):
    """Another storage, each of whose operations asks its database again while that is busy."""

    def __init__(self, database: Database, storage: BaseStorage) -> None:
        self._database = database
        self._storage = storage


def _patient(name: str) -> Callable[..., Any]:
    def operation(self: PatientStorage, *arguments: Any, **options: Any) -> Any:
        return self._database.ask(lambda: getattr(self._storage, name)(*arguments, **options))

    operation.__name__ = name
    return operation


for _name in BaseStorage.__abstractmethods__:
    setattr(PatientStorage, _name, _patient(_name))
abc.update_abstractmethods(PatientStorage)
