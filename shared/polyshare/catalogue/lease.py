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


class Superseded(Conflict):
    """The lease ran out and another holder took it."""


def is_held(ports: Ports, name: str) -> bool:
    """Whether somebody holds a lease, found out without a lock."""
    with ports.catalogue.reading() as connection:
        expires = connection.scalar(sa.select(leases.c.expires).where(leases.c.name == name))
    return expires is not None and expires > ports.clock.now()


def acquire(ports: Ports, name: str, seconds: float) -> Lease | None:
    """Take a lease that nobody holds, for so long; None if somebody does. `is_held` tells the same without a lock."""
    now = ports.clock.now()
    try:
        with ports.catalogue.transaction() as connection:  # flushed: a fence that is forgotten would be given twice
            row = connection.execute(sa.select(leases).where(leases.c.name == name).with_for_update()).first()
            if row is not None and row.expires > now:
                return None
            fence = row.fence + 1 if row is not None else 1
            values = {"holder": ports.holder, "fence": fence, "expires": now + seconds}
            if row is None:
                connection.execute(leases.insert().values(name=name, **values))
            else:
                connection.execute(leases.update().where(leases.c.name == name).values(**values))
    except IntegrityError:  # two made the row at once
        return None
    return Lease(ports, name, seconds, fence)


class Lease:
    """Held inside `with`. After a crash nobody lets it go: it runs out."""

    def __init__(self, ports: Ports, name: str, seconds: float, fence: int) -> None:
        self.fence = fence
        self._ports, self._name, self._seconds = ports, name, seconds

    @contextmanager
    def transaction(self, *, flushed: bool = True) -> Iterator[sa.Connection]:
        """A transaction on the catalogue in which the lease is still ours, and renewed; raises Superseded."""
        with self._ports.catalogue.transaction(flushed=flushed) as connection:
            ours = leases.c.name == self._name, leases.c.fence == self.fence
            if connection.execute(sa.select(leases.c.fence).where(*ours).with_for_update()).first() is None:
                raise Superseded(f"the lease {self._name!r} was taken over by another process")
            connection.execute(leases.update().where(*ours).values(expires=self._ports.clock.now() + self._seconds))
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
                connection.execute(
                    leases.update().where(leases.c.name == self._name, leases.c.fence == self.fence).values(expires=0.0)
                )
        except Unavailable:
            pass  # it runs out
