"""Connections to the catalogue's database: how many, and how long they wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.pool import PoolProxiedConnection

from polyshare.settings import read_secret

_PURPOSE = "polyshare_purpose"  # of a connection's transactions
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
        json_serializer=_json,
        json_deserializer=msgspec.json.decode,
        poolclass=sa.pool.StaticPool if memory else sa.pool.QueuePool,
        **sizes,
    )
    sa.event.listen(engine, "connect", _tune_sqlite)
    _begin_by(engine, _begin_sqlite)
    return engine


def purpose(connection: sa.Connection, *, writes: bool, flushed: bool = True) -> None:
    """Say what the transactions of a connection that was just lent are for, before the first begins."""
    connection.info[_PURPOSE] = writes, flushed
    if connection.dialect.name == "postgresql" and not writes:
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _begin_by(engine: sa.Engine, begin: Callable[[PoolProxiedConnection, bool, bool], None]) -> None:
    """Have transactions begun by this, which is told the connection and its purpose; SQLAlchemy translates its errors.

    Not by SQLAlchemy's event: an engine that has a listener looks for listeners at every statement.
    """
    engine.dialect.do_begin = lambda dbapi_connection: begin(  # type: ignore[method-assign]
        dbapi_connection, *dbapi_connection.info.get(_PURPOSE, (False, True))
    )


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
        json_serializer=_json,
        json_deserializer=msgspec.json.decode,
    )
    _begin_by(engine, _begin_postgresql)
    if password_file:
        sa.event.listen(engine, "do_connect", partial(_give_password, str(password_file)))
    return engine


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


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


def _begin_sqlite(connection: PoolProxiedConnection, writes: bool, flushed: bool) -> None:
    driver, info = connection.driver_connection, connection.info
    assert driver is not None
    level = "FULL" if flushed else "NORMAL"
    if writes and info.get("synchronous", "FULL") != level:
        driver.execute(f"PRAGMA synchronous={level}")
        info["synchronous"] = level
    driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: PoolProxiedConnection, writes: bool, flushed: bool) -> None:
    """The driver begins by itself, with the first statement."""
    if writes and not flushed:
        assert connection.driver_connection is not None
        connection.driver_connection.execute("SET LOCAL synchronous_commit = off")
