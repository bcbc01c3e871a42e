"""The catalogue's promises when many do the same thing at once, on SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from polyshare import api, events
from polyshare.catalogue import Catalogue, outbox
from polyshare.catalogue.lease import Superseded, acquire
from polyshare.catalogue.tables import assets, inbox_drops, jobs, leases, stages, uploads, writes
from polyshare.catalogue.tables import outbox as outbox_rows
from polyshare.errors import Conflict, Forbidden, PolyshareError, Unavailable
from polyshare.manifest import Manifest
from polyshare.operations import inbox, journal, rebuild
from polyshare.operations.access import readable
from polyshare.operations.anchor import anchor
from polyshare.operations.attempts import start
from polyshare.operations.govern import audit_log
from polyshare.operations.lineage import listing
from polyshare.operations.register import freeze
from polyshare.operations.status import status
from polyshare.operations.uploads import Wanted, collect, sign_parts
from polyshare.ports import Bucket
from tests.world import ADMIN, ALICE, CAROL, EVERYBODY, Files, World, rebuilt_on

MANY = 4


class Late(Catalogue):
    """Commits late, so that whoever comes meanwhile reads what was before."""

    @contextmanager
    def transaction(self, *, flushed: bool = True) -> Iterator[sa.Connection]:
        with super().transaction(flushed=flushed) as connection:
            yield connection
            time.sleep(0.03)


@pytest.fixture
def world(database: str) -> Iterator[World]:
    made = World()
    made.catalogue = Late(database, pool=MANY)
    made.ports = rebuilt_on(made.ports, made.catalogue)
    yield made
    made.catalogue.close()


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call came to, all begun at one moment: its value, or the error of ours that it raised."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait(timeout=30)
        try:
            return call()
        except PolyshareError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def uploaded(world: World, contents: bytes, **more: Any) -> str:
    """The id of a dataset that is uploaded and not confirmed."""
    held = Files({"a.csv": contents})
    answer = world.post("register_dataset", "/", {"files": held.listed(), **more})
    world.upload("register_dataset", answer, held)
    return str(answer.id)


def confirm(world: World, asset: str) -> Callable[[], Any]:
    return lambda: world.post("register_dataset", f"/{asset}/confirm", {})


def count(world: World, table: sa.Table, *where: Any) -> int:
    with world.catalogue.reading() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0


def changes(world: World, asset: str) -> list[str]:
    """Numbers of the changes that the journal has of an asset, in order."""
    listed = world.store.list(Bucket.JOURNAL, f"{asset}/change-")
    return [item.key.split("change-")[1][:6] for item in listed]


def test_of_a_name_registered_at_once_each_gets_a_version_of_its_own(world: World) -> None:
    ids = [uploaded(world, b"%d" % n, name="digits") for n in range(MANY)]
    answers = at_once(*(confirm(world, asset) for asset in ids))
    assert sorted(answer.version for answer in answers) == [1, 2, 3, 4]
    by_version = {row.version: row for row in world.rows(sa.select(assets))}
    assert [by_version[n].supersedes for n in (2, 3, 4)] == [by_version[n].id for n in (1, 2, 3)]


def test_confirmed_by_many_at_once_an_asset_has_one_record(world: World) -> None:
    asset = uploaded(world, b"1")
    answers = at_once(*[confirm(world, asset)] * MANY)
    assert {answer.address for answer in answers} == {world.row(assets, asset).address}
    assert count(world, writes) == 1
    (document, _), *others = journal.replay(world.ports)
    assert (document["address"], others) == (answers[0].address, [])


def test_an_idempotency_key_raced_registers_once(world: World) -> None:
    held = Files({"a.csv": b"1"})
    body = {"files": held.listed()}
    answers = at_once(*[lambda: world.post("register_dataset", "/", body, key="k")] * MANY)
    assert len({answer.id for answer in answers}) == 1
    assert count(world, assets) == 1


def test_a_job_started_by_many_at_once_has_one_attempt(world: World) -> None:
    model = waiting_model(world)
    job = world.rows(sa.select(jobs).where(jobs.c.asset == model))[0]
    begun = at_once(*[lambda: start(world.ports, job.id)] * MANY)
    assert sorted(begun) == [False, False, False, True]
    assert list(world.runner.queue) == [(job.id, 1)]
    begun = at_once(*[lambda: start(world.ports, job.id, lost=1)] * MANY)
    assert sorted(begun) == [False, False, False, True]
    assert world.row(jobs, job.id).attempt == 2


def waiting_model(world: World) -> str:
    """A model whose job could start and was not: its event came before its dataset was anchored."""
    dataset = world.dataset()
    model = world.model(dataset.id)
    while outbox.deliver(world.ports):
        pass
    queued, world.bus.queue = world.bus.queue, []
    assert "run_job" in [name for name, _ in queued]
    anchor(world.ports)
    return model.id


def test_of_completions_at_once_one_is_accepted(world: World) -> None:
    model = waiting_model(world)
    job = world.rows(sa.select(jobs).where(jobs.c.asset == model))[0]
    start(world.ports, job.id)
    token = world.runner.queue[(job.id, 1)].token

    def complete(reason: str) -> Callable[[], Any]:
        body = {"attempt": 1, "outcome": "failed", "reason": reason}
        return lambda: world.post("complete_job", f"/{job.id}/complete", body, token=token)

    answers = at_once(complete("a"), complete("b"), complete("a"), complete("b"))
    accepted = world.row(assets, model).reason
    assert accepted in ("a", "b")
    for reason, answer in zip("abab", answers, strict=True):
        assert answer is None if reason == accepted else isinstance(answer, Forbidden)
    assert complete(accepted)() is None
    assert count(world, writes, writes.c.action == "result") == 1
    assert len(changes(world, model)) == 1


def test_two_that_deliver_at_once_send_each_event_once(world: World) -> None:
    with world.catalogue.transaction() as connection:
        subjects = [f"{n}" for n in range(250)]
        for subject in subjects:
            outbox.append(connection, events.ASSET_REGISTERED, subject=subject, ports=world.ports)
    sent = at_once(*[lambda: outbox.deliver(world.ports)] * MANY)
    while more := outbox.deliver(world.ports):
        sent.append(more)
    assert sum(sent) == 250
    assert sorted(int(event.subject) for _, event in world.bus.queue) == list(range(250))


def test_rows_that_another_is_taking_are_passed_over(world: World, database: str) -> None:
    if database.startswith("sqlite"):
        pytest.skip("on SQLite a transaction that writes has the database for itself")
    with world.catalogue.transaction() as connection:
        for subject in ("1", "2"):
            outbox.append(connection, events.ASSET_REGISTERED, subject=subject, ports=world.ports)
    with world.catalogue.transaction() as connection:
        connection.execute(sa.select(outbox_rows).where(outbox_rows.c.subject == "1").with_for_update())
        assert outbox.deliver(world.ports) == 1
    assert [event.subject for _, event in world.bus.queue] == ["2"]


def test_an_event_that_comes_twice_at_once_comes_first_once(world: World) -> None:
    event = events.Event("t", "1")

    def take() -> bool:
        with world.catalogue.transaction() as connection:
            return outbox.first_time(connection, event, 1.0)

    assert sorted(at_once(*[take] * MANY)) == [False, False, False, True]


def test_of_many_one_has_the_lease_and_a_superseded_holder_changes_nothing(world: World) -> None:
    taken = [lease for lease in at_once(*[lambda: acquire(world.ports, "anchor", 10.0)] * MANY) if lease]
    assert len(taken) == 1
    assert acquire(world.ports, "anchor", 10.0) is None
    world.clock.time += 11
    second = [lease for lease in at_once(*[lambda: acquire(world.ports, "anchor", 10.0)] * MANY) if lease]
    assert [lease.fence for lease in second] == [2]
    with pytest.raises(Superseded), taken[0].transaction() as connection:
        connection.execute(stages.insert().values(asset="a", stage="b", at=1.0))
    assert count(world, stages) == 0
    assert count(world, leases) == 1


def test_shares_at_once_are_journalled_in_order_and_rebuilt(world: World) -> None:
    asset = world.dataset().id
    shared = [
        (lambda name: lambda: world.govern("share", asset, {"organisation": name}))(f"org{n}") for n in range(MANY)
    ]
    assert not [answer for answer in at_once(*shared) if isinstance(answer, Exception)]
    at_once(
        lambda: world.govern("unshare", asset, {"organisation": "org0"}),
        lambda: world.govern("share", asset, {"organisation": "org0"}),
        lambda: world.govern("visibility", asset, {"visibility": "private"}),
    )
    assert changes(world, asset) == [f"{n:06}" for n in range(MANY + 3)]
    before = world.get("govern", f"/{asset}/grants", ADMIN)
    again = World()
    again.ports = rebuilt_on(world.ports, again.catalogue)
    rebuild.rebuild(again.ports)
    after = again.get("govern", f"/{asset}/grants", ADMIN)
    assert (after.visibility, after.grants) == (before.visibility, before.grants)


def test_revoked_at_once_for_different_reasons_an_asset_is_revoked_for_one(world: World) -> None:
    asset = world.dataset().id
    answers = at_once(
        *((lambda why: lambda: world.govern("revoke", asset, {"reason": why}))(f"reason {n}") for n in range(MANY))
    )
    assert len([answer for answer in answers if isinstance(answer, Conflict)]) == MANY - 1
    assert count(world, writes, writes.c.action == "revoke") == 1
    assert len(changes(world, asset)) == 1


def test_bytes_that_are_shared_while_they_are_erased_stay(world: World) -> None:
    first = world.dataset({"a.csv": b"1"}).id
    second = world.post("register_dataset", "/", {"files": Files({"a.csv": b"1", "b.csv": b"2"}).listed()})
    assert second.missing == ["b.csv"]
    world.upload("register_dataset", second, Files({"b.csv": b"2"}))
    upload = world.row(uploads, second.id)
    stored = collect(world.ports, "acme", second.id, Manifest.from_json(upload.files), upload.reused)
    erasing = threading.Thread(target=lambda: world.govern("erase", first, {"confirm": first}))

    def meanwhile(_connection: sa.Connection) -> None:
        erasing.start()
        erasing.join(timeout=1.0)

    freeze(world.ports, second.id, stored, upload.reused, meanwhile)
    erasing.join(timeout=60)
    assert world.row(assets, first).erased
    assert all(world.store.head(Bucket.BLOBS, item.key) for item in stored)


def test_a_drop_that_many_see_at_once_becomes_one_dataset(world: World) -> None:
    world.drop("acme/digits/", {"a.csv": b"1"})
    begun = at_once(*[lambda: inbox.look(world.ports)] * MANY)
    assert sum(begun) == 1
    assert count(world, inbox_drops) == count(world, assets) == 1


def test_for_a_part_that_is_asked_for_at_once_one_digest_is_signed(world: World) -> None:
    size = 40 * 1024 * 1024

    def ask(content: bytes) -> Callable[[], Any]:
        wanted = Wanted("acme/u/x", size, 1, hashlib.sha256(content).digest())
        return lambda: sign_parts(world.ports, "u", [wanted])

    answers = at_once(ask(b"a"), ask(b"b"), ask(b"a"), ask(b"b"))
    refused = [isinstance(answer, Conflict) for answer in answers]
    assert refused in ([True, False, True, False], [False, True, False, True])


def test_the_whole_path_works_with_one_connection(database: str) -> None:
    world = World()
    world.catalogue = Catalogue(database, pool=1)
    world.ports = rebuilt_on(world.ports, world.catalogue)
    dataset = world.dataset(name="digits", metadata={"rows": 2, "licence": "CC0"}, visibility="public")
    model = world.model(dataset.id, name="classifier", key="once")
    world.settle(sweeps=2)
    told = status(world.ports, ALICE, model.id)
    assert (told.state, told.finished) == ("trained", True)
    assert len(world.get("catalogue", f"/{model.id}/lineage").assets) == 2
    world.drop("acme/dropped/", {"a.csv": b"1", "b.csv": b"2"})
    world.settle(sweeps=2)
    listed = world.get("catalogue", "/?limit=2")
    rest = world.get("catalogue", f"/?limit=2&cursor={listed.cursor}")
    assert [item.name for item in [*listed.assets, *rest.assets]] == ["dropped", "classifier", "digits"]
    assert [item.id for item in world.get("catalogue", "/", CAROL).assets] == [dataset.id]
    world.govern("share", model.id, {"organisation": "other"})
    assert {item.id for item in world.get("catalogue", "/", CAROL).assets} == {dataset.id, model.id}
    world.govern("revoke", model.id, {"reason": "wrong labels"})
    world.govern("erase", dataset.id, {"confirm": dataset.id})
    world.settle(sweeps=1)
    assert audit_log(world.ports, ADMIN, organisation=None, asset=model.id, cursor=None).entries
    assert count(world, outbox_rows) == 0
    world.catalogue.close()


def test_what_a_deadlock_ended_may_be_called_again(world: World, database: str) -> None:
    if database.startswith("sqlite"):
        pytest.skip("SQLite has one lock")
    one, two = world.dataset({"a": b"1"}).id, world.dataset({"a": b"2"}).id
    gate = threading.Barrier(2)

    def touch(first: str, second: str) -> Callable[[], Any]:
        def call() -> None:
            with world.catalogue.transaction() as connection:
                connection.execute(assets.update().where(assets.c.id == first).values(reason="x"))
                gate.wait(timeout=30)
                connection.execute(assets.update().where(assets.c.id == second).values(reason="x"))

        return call

    answers = at_once(touch(one, two), touch(two, one))
    assert sorted(type(answer).__name__ for answer in answers) == ["NoneType", "Unavailable"]


def test_a_connection_that_is_cut_in_mid_transaction_is_unavailable_and_the_next_works(
    world: World, database: str
) -> None:
    if database.startswith("sqlite"):
        pytest.skip("SQLite has no connections to lose")

    def write() -> None:
        with world.catalogue.transaction() as connection:
            connection.execute(stages.insert().values(asset="a", stage="b", at=1.0))
            mine = connection.scalar(sa.text("SELECT pg_backend_pid()"))
            with world.catalogue.transaction() as other:
                other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": mine})
            connection.execute(stages.insert().values(asset="a", stage="c", at=2.0))

    with pytest.raises(Unavailable):
        write()
    assert count(world, stages) == 0


def test_a_server_that_became_a_standby_is_unavailable(world: World, database: str) -> None:
    if database.startswith("sqlite"):
        pytest.skip("SQLite has no standby")

    def write() -> None:
        with world.catalogue.transaction() as connection:
            connection.execute(sa.text("SET TRANSACTION READ ONLY"))
            connection.execute(stages.insert().values(asset="a", stage="b", at=1.0))

    with pytest.raises(Unavailable):
        write()


def test_reading_sees_one_state_and_changes_nothing(world: World) -> None:
    asset = world.dataset().id
    with world.catalogue.reading() as connection:
        before = connection.scalar(sa.select(assets.c.visibility).where(assets.c.id == asset))
        world.govern("visibility", asset, {"visibility": "public"})
        assert connection.scalar(sa.select(assets.c.visibility).where(assets.c.id == asset)) == before
    assert world.row(assets, asset).visibility == "public"


def names(found: api.Listing) -> Sequence[str | None]:
    return [item.name for item in found.assets]


def test_a_listing_is_by_time_whoever_may_read_why(world: World) -> None:
    for n, visibility in enumerate(["public", "organisation", "private"] * 3):
        world.clock.time += 1
        world.dataset({"a": b"%d" % n}, name=f"n{n}", visibility=visibility)
    assert names(listing(world.ports, ALICE)) == [f"n{n}" for n in reversed(range(9))]
    assert names(listing(world.ports, CAROL)) == ["n6", "n3", "n0"]
    world.govern("share", "acme%2Fn5", {"organisation": "other"})
    assert names(listing(world.ports, CAROL)) == ["n6", "n5", "n3", "n0"]
    world.post("register_dataset", "/", {"files": Files({"a": b"x"}).listed(), "name": "begun"})
    for caller in EVERYBODY:
        may = sa.select(assets.c.name).where(readable(caller, world.clock.now()), assets.c.name != "begun")
        expected = [row.name for row in world.rows(may.order_by(assets.c.created.desc()))]
        assert names(listing(world.ports, caller)) == expected
    seen, cursor = [], ""
    while True:
        page = listing(world.ports, CAROL, limit=1, cursor=cursor)
        seen += names(page)
        if page.cursor is None:
            break
        cursor = page.cursor
    assert seen == ["n6", "n5", "n3", "n0"]


def test_an_error_of_the_database_tells_no_values(database: str) -> None:
    """Its text goes to the log, and values are salts and metadata."""
    catalogue = Catalogue(database)
    row = {"id": "a", "kind": 1, "organisation": "acme", "owner": "alice", "visibility": "private", "created": 1.0}
    row |= {"state": "registered", "fields": {"note": "hush"}}
    with pytest.raises(sa.exc.IntegrityError) as caught, catalogue.transaction() as connection:
        connection.execute(assets.insert(), [row, row])
    assert "hush" not in str(caught.value)
    catalogue.close()


def test_a_database_that_somebody_else_holds_is_unavailable(tmp_path: Path) -> None:
    catalogue = Catalogue(f"sqlite:///{tmp_path}/catalogue.db")
    with catalogue.reading() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=0")  # of the connection that is lent again
    with closing(sqlite3.connect(tmp_path / "catalogue.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"), catalogue.transaction():
            pass
    catalogue.close()
