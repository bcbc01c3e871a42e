"""Connections to the catalogue's database: how many, and how long they wait."""

from __future__ import annotations

from functools import partial
from typing import Any

import sqlalchemy as sa

from polyshare.settings import read_secret

_STATEMENT_SECONDS = 30
_LOCK_SECONDS = 10  # to wait for another transaction
_IDLE_SECONDS = 60  # that a transaction may do nothing: it holds locks


def make_engine(url: str, *, pool: int, statement_seconds: int = _STATEMENT_SECONDS) -> sa.Engine:
    """An engine on SQLite, or on PostgreSQL by psycopg with at most `pool` connections; connects when first used."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    return _postgresql(parsed, pool, statement_seconds)


def _sqlite(url: sa.URL) -> sa.Engine:
    memory = url.database in (None, "", ":memory:")
    sizes: dict[str, Any] = {} if memory else {"pool_size": 16, "max_overflow": 32}
    engine = sa.create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": 30},
        hide_parameters=True,  # an error's text goes to the log, and they are salts and metadata
        poolclass=sa.pool.StaticPool if memory else sa.pool.QueuePool,
        **sizes,
    )
    sa.event.listen(engine, "connect", _tune_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(url: sa.URL, pool: int, statement_seconds: int) -> sa.Engine:
    """Functions scale out, so each has few connections; `pool_pre_ping` and the timeouts get over a failover.

    Statements are not prepared: they go through a pooler of transactions, and each is planned with its values, without
    which an index of some rows only can't be chosen.

    libpq ignores a passfile that others may read, as every file of a secret mounted for a user who is not root is: so
    `?password_file=` is ours, and read for each connection, so that a password can be changed while functions run.
    """
    password_file = url.query.get("password_file")
    url = url.difference_update_query(["password_file"])
    milliseconds = {
        "statement_timeout": statement_seconds * 1000,
        "lock_timeout": _LOCK_SECONDS * 1000,
        "idle_in_transaction_session_timeout": _IDLE_SECONDS * 1000,
    }
    connect = {
        "connect_timeout": 10,
        "target_session_attrs": "read-write",
        "tcp_user_timeout": 20_000,
        "keepalives_idle": 30,
        "application_name": "polyshare",
        "options": " ".join(f"-c {name}={value}" for name, value in milliseconds.items()),
    }
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={**{k: v for k, v in connect.items() if k not in url.query}, "prepare_threshold": None},
        pool_size=pool,
        max_overflow=0,
        pool_timeout=_LOCK_SECONDS,
        pool_recycle=1800,
        pool_pre_ping=True,
        hide_parameters=True,
    )
    sa.event.listen(engine, "begin", _begin_postgresql)
    if password_file:
        sa.event.listen(engine, "do_connect", partial(_give_password, str(password_file)))
    return engine


def _give_password(path: str, _dialect: object, _record: object, _args: object, parameters: dict[str, Any]) -> None:
    parameters["password"] = read_secret(path, "database")


def _tune_sqlite(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # we say BEGIN ourselves
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    # Pages (16 MB) until the log is copied into the database: a registration writes 40, many of them again and again.
    cursor.execute("PRAGMA wal_autocheckpoint=4000")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if options.get("polyshare_writes"):
        level = "FULL" if options.get("polyshare_flushed", True) else "NORMAL"
        if connection.info.get("synchronous", "FULL") != level:
            connection.exec_driver_sql(f"PRAGMA synchronous={level}")
            connection.info["synchronous"] = level
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("polyshare_writes") else "BEGIN")


def _begin_postgresql(connection: sa.Connection) -> None:
    if not connection.get_execution_options().get("polyshare_flushed", True):
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
