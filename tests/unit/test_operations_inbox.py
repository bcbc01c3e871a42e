"""Datasets dropped in the inbox bucket, and events on their way: what comes of each, once."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sa

from polyshare.catalogue.outbox import append, deliver
from polyshare.catalogue.tables import assets, outbox
from polyshare.errors import Unavailable
from polyshare.events import JOB_READY
from polyshare.operations.rebuild import rebuild
from polyshare.ports import Bucket
from tests.world import World, rebuilt_on, with_store


@pytest.fixture
def world() -> World:
    return World(seed="inbox")


def dropped(world: World) -> list[tuple[str, int | None]]:
    rows = world.rows(sa.select(assets).where(assets.c.owner == "inbox:acme").order_by(assets.c.version))
    return [(row.state, row.version) for row in rows]


def status(world: World) -> dict[str, object]:
    told: dict[str, object] = msgspec.json.decode(world.store.get(Bucket.INBOX, "acme/iris/polyshare.status.json"))
    return told


def test_a_drop_becomes_one_dataset_however_often_it_is_looked_at(world: World) -> None:
    world.drop("acme/iris/", {"train/a.csv": b"1", "notes.txt": b"2"})
    world.settle(sweeps=3)
    assert dropped(world) == [("registered", 1)]
    assert status(world)["state"] == "registered"


def test_the_marker_put_twice_by_a_retry_is_one_dataset(world: World) -> None:
    world.drop("acme/iris/", {"a.csv": b"1"})
    world.settle(sweeps=2)
    world.drop("acme/iris/", {})
    world.settle(sweeps=2)
    assert dropped(world) == [("registered", 1)]


def test_other_files_under_the_same_marker_are_the_next_version_once_it_is_put_again(world: World) -> None:
    world.drop("acme/iris/", {"a.csv": b"1"})
    world.settle(sweeps=2)
    world.clock.time += 1
    world.drop("acme/iris/", {"a.csv": b"2"}, marker=None)
    world.settle(sweeps=2)
    assert dropped(world) == [("registered", 1)]
    assert status(world)["state"] == "waiting"
    world.drop("acme/iris/", {})
    world.settle(sweeps=2)
    assert dropped(world) == [("registered", 1), ("registered", 2)]


def test_an_object_changed_while_it_is_read_fails_its_drop_and_the_next_marker_begins_anew(world: World) -> None:
    world.drop("acme/iris/", {"a.csv": b"1"})
    world.sweep()
    world.clock.time += 1
    world.drop("acme/iris/", {"a.csv": b"changed"}, marker=None)
    world.settle(sweeps=2)
    assert dropped(world) == [("failed", None)]
    world.drop("acme/iris/", {})
    world.settle(sweeps=2)
    assert [state for state, _ in dropped(world)] == ["failed", "registered"]


def test_a_bad_marker_is_refused_and_told(world: World) -> None:
    world.drop("acme/iris/", {"a.csv": b"1"}, marker=b'{"colour": 1}')
    world.settle(sweeps=2)
    assert dropped(world) == []
    assert status(world)["state"] == "refused"


def test_a_store_that_does_not_answer_refuses_no_drop(world: World) -> None:
    world.drop("acme/iris/", {"a.csv": b"1"})

    class Away(type(world.store)):  # type: ignore[misc]
        def get(self, bucket: Bucket, key: str) -> bytes:
            raise Unavailable("the store does not answer")

    away = Away(world.clock)
    away.__dict__.update(world.store.__dict__)
    ports, world.ports = world.ports, with_store(world.ports, away)
    world.sweep()
    world.ports = ports
    world.settle(sweeps=2)
    assert dropped(world) == [("registered", 1)]


def test_an_erased_drop_stays_erased_when_the_database_is_rebuilt(world: World) -> None:
    from tests.world import ADMIN

    world.drop("acme/iris/", {"a.csv": b"1"})
    world.settle(sweeps=2)
    asset = world.rows(sa.select(assets.c.id))[0].id
    world.govern("erase", asset, {"confirm": asset}, ADMIN)
    world.lose_database()
    rebuild(world.ports)
    world.settle(sweeps=3)
    assert [row.id for row in world.rows(sa.select(assets.c.id).where(assets.c.erased.is_not(None)))] == [asset]
    assert len(dropped(world)) == 1


def test_a_slow_sender_deletes_no_other_event_than_it_sent(world: World) -> None:
    """SQLite gives the number of a deleted last row to the next one."""

    class Slow:
        def publish(self, sent: list[object]) -> list[bool]:
            with world.catalogue.transaction() as connection:  # meanwhile another sender was done with it
                connection.execute(outbox.delete())
                append(connection, JOB_READY, subject="the next", ports=world.ports)
            return [True] * len(sent)

    with world.catalogue.transaction() as connection:
        append(connection, JOB_READY, subject="the first", ports=world.ports)
    deliver(rebuilt_on(world.ports, world.catalogue, bus=Slow()))
    assert [row.subject for row in world.rows(sa.select(outbox))] == ["the next"]
