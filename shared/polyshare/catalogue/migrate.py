"""Bring a database to the tables that this release works with. See `migrations/online.py` for how they are written."""

from __future__ import annotations

import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from polyshare.catalogue.engine import make_engine, purpose
from polyshare.catalogue.tables import REVISION, assets
from polyshare.errors import Conflict, Unavailable

_LOCK = 0x706F6C7973686172  # "polyshar": PostgreSQL's advisory lock of whoever migrates
_PATIENCE = 600.0  # seconds to wait for another runner
_FIRST = "0001"


def upgrade(url: str) -> tuple[str | None, str]:
    """Migrate a database to the newest revision; the revision before and after. Two at once are safe.

    Tables that were made before there were revisions are taken for the first one. Raises Unavailable if the database
    does not answer or another runner takes too long, Conflict if a newer release migrated it further.
    """
    engine = make_engine(url, pool=2, statement_seconds=0)
    try:
        with engine.connect() as connection:
            if revision_of(connection) == REVISION:
                return REVISION, REVISION
        with engine.connect() as guard, engine.connect() as connection:
            purpose(connection, writes=True)
            _take_turn(guard)
            return _upgrade(connection), REVISION
    except DatabaseError as error:
        raise Unavailable(f"the database could not be migrated: {error.orig}") from error
    finally:
        engine.dispose()


def _upgrade(connection: sa.Connection) -> str | None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    before, is_empty = revision_of(connection), not sa.inspect(connection).has_table(assets.name)
    connection.rollback()  # looking began a transaction
    if before is not None and before not in known:
        raise Conflict(f"the database is at revision {before}, which this release does not know: run the newer release")
    if before is None and not is_empty:
        command.stamp(config, _FIRST)
    command.upgrade(config, REVISION)
    return before


def revision_of(connection: sa.Connection) -> str | None:
    """The revision that a database says it is at; None if it says none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _take_turn(guard: sa.Connection) -> None:
    """Hold PostgreSQL's lock of whoever migrates, as long as this connection lives. (SQLite's folder has one holder.)

    Asked again and again, outside of a transaction: an index that is built concurrently waits for every transaction,
    also for one that waits for this lock.
    """
    if guard.dialect.name != "postgresql":
        return
    guard.execution_options(isolation_level="AUTOCOMMIT")
    end = time.monotonic() + _PATIENCE
    while not guard.scalar(sa.select(sa.func.pg_try_advisory_lock(_LOCK))):
        if time.monotonic() > end:
            raise Unavailable(f"another process has been migrating this database for {_PATIENCE:.0f} seconds")
        time.sleep(0.2)
