"""The catalogue: the relational state of the registry, on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from polyshare.catalogue import tables
from polyshare.errors import Unavailable


class Catalogue:
    """Transactions on one database.

    `transaction()` is for writing: on SQLite it takes the write lock at once, so two of them never interleave; what it
    read is still true when it commits. `reading()` sees one consistent state and changes nothing.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        if url.startswith("sqlite"):
            memory = url in ("sqlite://", "sqlite:///:memory:")
            self._engine = sa.create_engine(
                url,
                connect_args={"check_same_thread": False, "timeout": 30},
                poolclass=sa.pool.StaticPool if memory else sa.pool.QueuePool,
                **({} if memory else {"pool_size": 16, "max_overflow": 32}),
            )
            sa.event.listen(self._engine, "connect", _tune_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        else:
            self._engine = sa.create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=10)
        if create:
            tables.metadata.create_all(self._engine)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Commits on leaving, rolls back on an exception. Raises Unavailable if the database does not answer."""
        with self._connect(writes=True) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Raises Unavailable if the database does not answer."""
        with self._connect(writes=False) as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _connect(self, *, writes: bool) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect().execution_options(polyshare_writes=writes) as connection, connection.begin():
                yield connection
        except OperationalError as error:
            raise Unavailable(f"the catalogue's database does not answer: {error.orig}") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable(f"the catalogue's database went away: {error.orig}") from error
            raise


def _tune_sqlite(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # we say BEGIN ourselves
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("polyshare_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
