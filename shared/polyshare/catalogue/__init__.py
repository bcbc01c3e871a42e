"""The catalogue: the relational state of the registry, on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from polyshare.catalogue import tables
from polyshare.catalogue.engine import make_engine, purpose
from polyshare.errors import Misconfigured, Unavailable

_UNDEFINED = ("42P01", "42703")  # SQLSTATE: no such table, no such column
_READ_ONLY_OR_IDLE = "25"  # class of SQLSTATE: what a server that is no longer the primary answers


class Catalogue:
    """Transactions on one database; at most `pool` at once on PostgreSQL.

    `transaction()` is for writing. On SQLite two of them never interleave. On PostgreSQL (READ COMMITTED: each
    statement sees what is committed by then) they do, so who reads to decide locks first (`catalogue.locks`): the asset
    that it is about, or a name where there may be no row yet. `reading()` sees one consistent state, changes nothing.

    SQLite has one writer at a time. Those of this process take turns: whom SQLite itself makes wait sleeps, longer each
    time, and may find another there before it.

    SQLite's tables are made here if there are none; PostgreSQL's by `python -m polyshare.catalogue upgrade`.
    """

    def __init__(self, url: str, *, pool: int = 4) -> None:
        self._engine = make_engine(url, pool=pool)
        self._turn: AbstractContextManager[object] = nullcontext()
        if self._engine.dialect.name == "sqlite":
            tables.create(self._engine)
            if self._engine.url.database not in (None, "", ":memory:"):
                self._turn = Lock()

    @contextmanager
    def transaction(self, *, flushed: bool = True) -> Iterator[sa.Connection]:
        """Commits on leaving, rolls back on an exception.

        What is not `flushed` is there for everybody, and stays when a process dies; a machine that loses power may
        forget it, unless something flushed was committed after it. For what is done again where it is missing.

        Raises Unavailable if the database does not answer, or broke a deadlock or a wait by giving this one up: the
        same call may be made again. Raises Misconfigured if it was not migrated.
        """
        with self._turn, self._connect(writes=True, flushed=flushed) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Raises as `transaction`."""
        with self._connect(writes=False) as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _connect(self, *, writes: bool, flushed: bool = True) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                purpose(connection, writes=writes, flushed=flushed)
                with connection.begin():
                    yield connection
        except (OperationalError, PoolTimeout) as error:
            raise Unavailable(f"the catalogue's database does not answer: {_reason(error)}") from error
        except DBAPIError as error:
            state = str(getattr(error.orig, "sqlstate", None) or "")
            if error.connection_invalidated or state.startswith(_READ_ONLY_OR_IDLE):
                raise Unavailable(f"the catalogue's database went away: {_reason(error)}") from error
            if isinstance(error, ProgrammingError) and state in _UNDEFINED:
                raise Misconfigured(
                    "the catalogue's database is not migrated: run python -m polyshare.catalogue upgrade"
                ) from error
            raise


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip()
