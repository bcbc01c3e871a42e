"""Leases: one holder at a time does a thing, and a fence keeps a superseded one from changing anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from polyshare.catalogue.tables import leases
from polyshare.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from polyshare.bootstrap import Ports


# Made once: SQLAlchemy takes as long to make a statement as to run it.
_NAMED = leases.c.name == sa.bindparam("lease")
_OURS = _NAMED, leases.c.fence == sa.bindparam("ours")
_EXPIRES = sa.select(leases.c.expires).where(_NAMED)
_LEASE = sa.select(leases).where(_NAMED).with_for_update()
_TAKE = leases.update().where(_NAMED)
_IS_OURS = sa.select(leases.c.fence).where(*_OURS).with_for_update()
_RENEW = leases.update().where(*_OURS).values(expires=sa.bindparam("until"))


class Superseded(Conflict):
    """The lease ran out and another holder took it."""


def is_held(ports: Ports, name: str) -> bool:
    """Whether somebody holds a lease, found out without a lock."""
    with ports.catalogue.reading() as connection:
        expires = connection.scalar(_EXPIRES, {"lease": name})
    return expires is not None and expires > ports.clock.now()


def acquire(ports: Ports, name: str, seconds: float) -> Lease | None:
    """Take a lease that nobody holds, for so long; None if somebody does. `is_held` tells the same without a lock."""
    now = ports.clock.now()
    try:
        with ports.catalogue.transaction() as connection:  # flushed: a fence that is forgotten would be given twice
            row = connection.execute(_LEASE, {"lease": name}).first()
            if row is not None and row.expires > now:
                return None
            fence = row.fence + 1 if row is not None else 1
            values = {"holder": ports.holder, "fence": fence, "expires": now + seconds}
            if row is None:
                connection.execute(leases.insert(), {"name": name, **values})
            else:
                connection.execute(_TAKE, {"lease": name, **values})
    except IntegrityError:  # two made the row at once
        return None
    return Lease(ports, name, seconds, fence)


class Lease:
    """Held inside `with`. After a crash nobody lets it go: it runs out."""

    def __init__(self, ports: Ports, name: str, seconds: float, fence: int) -> None:
        self.fence = fence
        self._ports, self._name, self._seconds = ports, name, seconds
        self._ours = {"lease": name, "ours": fence}

    @contextmanager
    def transaction(self, *, flushed: bool = True) -> Iterator[sa.Connection]:
        """A transaction on the catalogue in which the lease is still ours, and renewed; raises Superseded."""
        with self._ports.catalogue.transaction(flushed=flushed) as connection:
            if connection.execute(_IS_OURS, self._ours).first() is None:
                raise Superseded(f"the lease {self._name!r} was taken over by another process")
            connection.execute(_RENEW, {**self._ours, "until": self._ports.clock.now() + self._seconds})
            yield connection

    def renew(self) -> None:
        """Raises Superseded."""
        with self.transaction(flushed=False):
            pass

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            with self._ports.catalogue.transaction(flushed=False) as connection:
                connection.execute(_RENEW, {**self._ours, "until": 0.0})
        except Unavailable:
            pass  # it runs out
