"""Turns: who decides something by what it reads waits for others who decide the same."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from polyshare.catalogue.tables import assets, jobs

_ASSET = sa.select(assets).where(assets.c.id == sa.bindparam("asset")).with_for_update()


def lock(connection: sa.Connection, *names: str) -> None:
    """Wait until no other transaction has one of these names, and have them until this one ends.

    For what may have no row yet that could be locked: an idempotency key, the next version of a name, the parts of an
    upload. Take it before reading what it guards: on PostgreSQL each statement sees what was committed before it began.
    On SQLite there is nothing to do, as a transaction that writes has the database for itself.

    An advisory lock rather than a unique constraint alone: a violated constraint ends the transaction, which would have
    to be begun anew, and says nothing where two of them update. (The constraints stand besides.) Rather than isolation
    SERIALIZABLE: that ends transactions which did not meet, since it locks pages of indexes, and the ids of assets that
    are registered at one time lie on one page. The lock's number is 64 bits of a hash: a collision costs a wait.
    """
    if connection.dialect.name != "postgresql":
        return
    for number in sorted(int.from_bytes(sha256(name.encode()).digest()[:8], "big", signed=True) for name in names):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))


def lock_asset(connection: sa.Connection, asset: str) -> sa.Row[Any] | None:
    """The asset as it is now and stays until this transaction ends: others that lock or change it wait.

    The row of an asset stands for all that belongs to it: its files, job, grants, stages, ledger writes.
    """
    return connection.execute(_ASSET, {"asset": asset}).first()


def lock_job(connection: sa.Connection, job: str) -> sa.Row[Any] | None:
    """As `lock_asset`, by the job that belongs to it. Nobody locks a job's own row, so there is one order of locks."""
    its_asset = sa.select(jobs.c.asset).where(jobs.c.id == job).scalar_subquery()
    return connection.execute(sa.select(assets).where(assets.c.id == its_asset).with_for_update()).first()
