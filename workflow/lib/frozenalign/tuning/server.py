"""The trials of a study in a database server, which may restart, or be out of reach for a while."""

import functools
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.engine import make_url

from frozenalign.system.errors import UserError, one_line
from frozenalign.tuning.storage import PATIENCE_SECONDS, Store, patient, repeated

# The first connection fails sooner: its cause is rather a mistake than a restart.
OPENING_SECONDS = 20.0
CONNECT_SECONDS = 10
# A stopped process must not hold the rows of the others for longer.
TRANSACTION_SECONDS = 30
_PASSING = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)


@dataclass(frozen=True)
class Server(Store):
    """A database server, as a SQLAlchemy URL without a password; the driver reads it from the environment.

    dataset: stands before the names of studies, of which one server may hold those of several data sets.
    """

    url: str
    dataset: str
    patience: float = PATIENCE_SECONDS

    def key(self, study: str) -> str:
        """Return DATASET/STUDY."""
        return f"{self.dataset}/{study}" if self.dataset else study

    def open(self) -> BaseStorage:
        """Return the database, whose tables are made if missing."""
        url, options = self._engine()
        connect = functools.partial(RDBStorage, url, engine_kwargs=options)
        storage = get_storage(repeated(connect, min(OPENING_SECONDS, self.patience), self._refusal))
        return patient(storage, lambda operation: repeated(operation, self.patience, self._refusal))

    @property
    def removal(self) -> str:
        """The command that deletes it; the URL stands in the study's file."""
        return "delete it there (optuna delete-study)"

    def _engine(self) -> tuple[str, dict[str, Any]]:
        """Return the URL with its driver, and what its engine is told."""
        url, options = make_url(self.url), {"pool_pre_ping": True}
        if url.get_backend_name() == "postgresql":
            if url.drivername == "postgresql":
                url = url.set(drivername="postgresql+psycopg")
            limit = f"-c idle_in_transaction_session_timeout={TRANSACTION_SECONDS}s"
            options["connect_args"] = {"connect_timeout": CONNECT_SECONDS, "options": limit}
        try:
            url.get_dialect().import_dbapi()
        except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
            raise UserError(
                f"storage: {url.drivername} needs a driver that is not installed ({one_line(str(error))}): "
                "for PostgreSQL, pip install 'frozenalign[postgresql]'"
            ) from error
        return url.render_as_string(hide_password=False), options

    def _refusal(self, error: Exception, time_is_up: bool) -> str | None:
        cause = next((each for each in causes(error) if isinstance(each, sqlalchemy.exc.DBAPIError)), None)
        is_passing = isinstance(cause, _PASSING) or (cause is not None and cause.connection_invalidated)
        if is_passing and not time_is_up:
            return None
        reason = one_line(str(getattr(cause or error, "orig", error)).splitlines()[0])
        return (
            f"the database server of the study cannot be used ({reason}): check `storage` in the study's file, PGUSER "
            "and PGPASSWORD in the environment, and the server, then run the same command again"
        )


def causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and what led to it, the last first."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
