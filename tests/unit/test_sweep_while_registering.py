"""What others commit while the sweep delivers is seen by whoever has the sweep's connection next."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import sqlalchemy as sa

from polyshare import events
from polyshare.catalogue import Catalogue, outbox, tables
from polyshare.operations.sweep import sweep
from tests.world import World


class _Onlooker:
    """A bus that, while it has an event in hand, commits a row on a connection of its own and looks for it."""

    def __init__(self, catalogue: Catalogue, other: Catalogue) -> None:
        self._catalogue, self._other = catalogue, other
        self.seen: list[bool] = []

    def publish(self, sent: list[events.Event]) -> list[bool]:
        for event in sent:
            with self._other.transaction() as connection:
                connection.execute(tables.inbox.insert().values(source="test", id=event.id, at=0.0))
            for _ in range(4):  # the pool hands its connections out in turn
                with self._catalogue.reading() as connection:
                    mine = sa.select(tables.inbox.c.id).where(tables.inbox.c.id == event.id)
                    self.seen.append(connection.scalar(mine) == event.id)
        return [True] * len(sent)


def test_while_the_sweep_delivers_every_connection_sees_what_was_committed(tmp_path: Path) -> None:
    catalogue = Catalogue(f"sqlite:///{tmp_path}/catalogue.sqlite")
    other = Catalogue(f"sqlite:///{tmp_path}/catalogue.sqlite")
    bus = _Onlooker(catalogue, other)
    ports = dataclasses.replace(World().ports, catalogue=catalogue, bus=bus)
    due = ports.clock.now() + 0.75  # not yet when it begins, but by the time it wakes anchor
    with catalogue.transaction() as connection:
        outbox.append(connection, events.ASSET_REGISTERED, subject="a", ports=ports)
        connection.execute(tables.outbox.update().values(due=due))

    class Later:
        """A clock that moves on with each look."""

        time = ports.clock.now()

        def now(self) -> float:
            self.time += 0.5
            return self.time

    sweep(dataclasses.replace(ports, clock=Later()))
    catalogue.close()
    other.close()
    assert bus.seen
    assert all(bus.seen)
