"""Bugs planted on purpose: each swaps a piece of the product for one that is wrong, as it could have been written.

The simulation must find each of them (see tests/unit/test_simulation.py): what it can't find, it does not test. Each
asks for the faults that bring it out, so that few histories suffice; all else is drawn as ever.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

import functions
from polyshare.api import CompleteJob
from polyshare.bootstrap import Ports
from polyshare.catalogue import lease, outbox
from polyshare.catalogue.tables import assets, files, inbox_drops, transactions, writes
from polyshare.errors import Unavailable
from polyshare.events import Event
from polyshare.jobs.fake import FakeRunner
from polyshare.jobs.job import Job
from polyshare.jobs.record import Record as RunRecord
from polyshare.ledger.record import Record, asset_address, trust_root
from polyshare.manifest import Entry, commitment
from polyshare.operations import anchor, govern, inbox, journal, register, results, uploads
from polyshare.operations.access import Asset
from polyshare.ports import Bucket
from tests.simulation.cluster import Cluster

Bug = Callable[[Cluster], AbstractContextManager[None]]


@contextmanager
def swapped(replacements: Mapping[Any, Any]) -> Iterator[None]:
    """Put other functions in the place of some of the product's, wherever a module of it names them."""
    for function in pkgutil.iter_modules(functions.__path__):  # a module imported later would keep what is swapped
        importlib.import_module(f"functions.{function.name}.handler")
    undone: list[tuple[Any, str, Any]] = []
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] in ("polyshare", "functions")]
    for module in modules:
        for name, value in list(vars(module).items()):
            if callable(value) and value in replacements:
                undone.append((module, name, value))
                setattr(module, name, replacements[value])
    try:
        yield
    finally:
        for module, name, value in undone:
            setattr(module, name, value)


@contextmanager
def method(owner: type, name: str, wrong: Any) -> Iterator[None]:
    """Put another method in the place of one."""
    right = owner.__dict__[name]
    setattr(owner, name, wrong)
    try:
        yield
    finally:
        setattr(owner, name, right)


def acknowledged_before_the_journal(cluster: Cluster) -> AbstractContextManager[None]:
    """A registration is committed, and only then written to the journal."""
    cluster.plan.crash = 0.015
    right_write = journal.register
    late: list[tuple[Ports, str, Any, Any]] = []

    def later(ports: Ports, asset: str, document: Mapping[str, Any], brought: Mapping[str, bytes]) -> None:
        late.append((ports, asset, document, brought))

    right = register.acknowledge

    def wrong(ports: Ports, row: Asset, *known: Any) -> Asset:
        answer = right(ports, row, *known)
        while late:
            right_write(*late.pop())
        return answer

    @contextmanager
    def planted() -> Iterator[None]:
        with swapped({right: wrong}), method_of(journal, "register", later):
            yield

    return planted()


def acknowledged_before_the_commit(cluster: Cluster) -> AbstractContextManager[None]:
    """Where the commit of a frozen record fails, what would have been committed is answered."""
    cluster.plan.error = 0.02
    right = register.freeze

    def wrong(ports: Ports, asset: str, stored: Any, reused: Any, also: Any = lambda connection: None) -> Asset:
        seen: list[Asset] = []

        def look(connection: sa.Connection) -> None:
            also(connection)
            seen.append(connection.execute(sa.select(assets).where(assets.c.id == asset)).one())

        try:
            return right(ports, asset, stored, reused, look)
        except Unavailable:
            if seen:
                return seen[0]
            raise

    return swapped({right: wrong})


def salt_anew_on_each_try(cluster: Cluster) -> AbstractContextManager[None]:
    """A registration that is tried again gets a new salt, and so another record than the journal may have."""
    cluster.plan.error = 0.02
    right = register.acknowledge

    def wrong(ports: Ports, row: Asset) -> Asset:
        salt = ports.random.bytes(32)
        record = replace(Record.decode(row.kind, row.record), commitment=commitment(salt, row.content_root)).encode()
        address = asset_address(trust_root(ports.settings.trust_root), row.kind, record)
        with ports.catalogue.transaction() as connection:
            mine = (assets.c.id == row.id) & (assets.c.state == "registering")
            values = {"salt": salt, "record": record, "address": "0x" + address.hex()}
            connection.execute(assets.update().where(mine).values(**values))
            row = connection.execute(sa.select(assets).where(assets.c.id == row.id)).one()
        return right(ports, row)

    return swapped({right: wrong})


def anchored_before_its_parents(cluster: Cluster) -> AbstractContextManager[None]:
    """Pending writes are taken newest first, whatever they wait for."""

    def wrong(connection: sa.Connection) -> Iterator[Any]:
        pending = sa.select(writes).where(writes.c.state == "pending", writes.c.transaction.is_(None))
        yield from connection.execute(pending.order_by(writes.c.row.desc())).all()

    return swapped({anchor._ready: wrong})


def nonce_used_again_after_a_crash(cluster: Cluster) -> AbstractContextManager[None]:
    """Signed bytes are sent and then stored, and the next nonce is the one after the last stored."""
    cluster.wanted = ("_register_dataset",)
    cluster.plan.crash, cluster.plan.error = 0.015, 0.02
    right = anchor._Anchoring._store

    def wrong(self: Any, batches: Any) -> None:
        nonce = self._next_nonce()
        for number, batch in enumerate(batches):
            self._ledger.send(self._ledger.sign([anchor.entry_of(write) for write in batch], nonce + number).raw)
        right(self, batches)

    def last_stored(self: Any) -> int:
        with self._ports.catalogue.reading() as connection:
            last = connection.scalar(sa.select(sa.func.max(transactions.c.nonce)))
        return int(self._ledger.next_nonce()) if last is None else int(last) + 1

    @contextmanager
    def planted() -> Iterator[None]:
        with method(anchor._Anchoring, "_store", wrong), method(anchor._Anchoring, "_next_nonce", last_stored):
            yield

    return planted()


def lease_without_fence(cluster: Cluster) -> AbstractContextManager[None]:
    """Who held the lease before it ran out goes on as if it had not."""
    cluster.plan.delay = 0.015

    @contextmanager
    def wrong(self: Any, **_: Any) -> Iterator[sa.Connection]:
        with self._ports.catalogue.transaction() as connection:
            yield connection

    return method(lease.Lease, "transaction", wrong)


def drop_noted_in_another_transaction(cluster: Cluster) -> AbstractContextManager[None]:
    """That an inbox drop came in is committed before the dataset that it becomes."""
    cluster.plan.crash, cluster.plan.error = 0.015, 0.02
    right = inbox._begin

    def wrong(ports: Ports, folder: str, marker: Any, objects: Any) -> int:
        with ports.catalogue.transaction() as connection:
            if inbox._is_known(connection, folder, marker, objects):
                return 0
            named = inbox._named(folder, marker, objects)
            connection.execute(inbox_drops.insert().values(asset="", **named))
        with ports.catalogue.transaction() as connection:
            connection.execute(inbox_drops.delete().where(inbox_drops.c.prefix == folder, inbox_drops.c.asset == ""))
        return right(ports, folder, marker, objects)

    return swapped({right: wrong})


def completion_accepted_twice(cluster: Cluster) -> AbstractContextManager[None]:
    """Whether a job was completed is looked at before the transaction that completes it, and not in it."""
    cluster.wanted = ("_register_model",)
    cluster.plan.lost, cluster.plan.delay = 0.1, 0.015

    def wrong(connection: sa.Connection, row: Any, body: CompleteJob, digest: bytes) -> bool:
        return False

    return swapped({results._was_accepted: wrong})


class _Trusting(FakeRunner):
    """Takes inputs as they come, and says in the run record that they were verified."""

    def _fetch(self, job: Job, document: Mapping[str, Any], record: RunRecord) -> dict[str, bytes] | None:
        found: dict[str, bytes] = {}
        for channel, items in document["channels"].items():
            for item in items:
                answer = self._post(job, "inputs", {"files": [{"channel": channel, "path": item["path"]}]})
                if answer is None:
                    return None
                data = self._line.get(answer["urls"][0]["url"], answer["urls"][0].get("headers") or {})
                if data is None:
                    return None
                if "digest" in item:
                    record.inputs.append((channel, Entry.from_json({k: item[k] for k in ("path", "size", "digest")})))
                found[f"{channel}/{item['path']}"] = data
        return found


def inputs_not_verified(cluster: Cluster) -> AbstractContextManager[None]:
    """The runner does not hash its inputs before it uses them."""
    cluster.plan.lost = 0.1

    @contextmanager
    def running() -> Iterator[None]:
        cluster.runner_class = _Trusting
        yield

    return running()


def event_deleted_before_it_is_taken(cluster: Cluster) -> AbstractContextManager[None]:
    """The relay takes events off the outbox and then posts them."""
    cluster.wanted = ("_register_model",)
    cluster.plan.lost = 0.1

    def wrong(ports: Ports, *, limit: int = 100) -> int:
        table = outbox.outbox
        with ports.catalogue.transaction() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.row).limit(limit)).all()
            connection.execute(table.delete().where(table.c.id.in_([row.id for row in rows])))
        if rows:
            ports.bus.publish([Event(row.type, row.id, row.subject, row.data, time=row.at) for row in rows])
        return len(rows)

    return swapped({outbox.deliver: wrong})


def shared_blobs_erased(cluster: Cluster) -> AbstractContextManager[None]:
    """Erasing deletes all blobs of an asset, also those that another asset refers to."""
    cluster.wanted = ("_register_dataset", "_erase")
    right = govern.finish_erasing

    def wrong(ports: Ports, asset: str) -> None:
        with ports.catalogue.reading() as connection:
            keys = list(connection.scalars(sa.select(files.c.key).where(files.c.asset == asset)))
        ports.store().delete(Bucket.BLOBS, keys)
        right(ports, asset)

    return swapped({right: wrong})


def known_bytes_are_anybodys(cluster: Cluster) -> AbstractContextManager[None]:
    """Who knows a hash need not upload the bytes, whoever they belong to."""
    cluster.wanted = ("_register_dataset",)
    return method_of(uploads, "readable", lambda caller, now: sa.true())


def changes_numbered_by_the_catalogue(cluster: Cluster) -> AbstractContextManager[None]:
    """A change that was written and never committed has the number of the next one. (This one was ours.)"""
    cluster.wanted = ("_set_visibility",)
    cluster.plan.error, cluster.plan.crash = 0.05, 0.0

    def wrong(connection: sa.Connection, ports: Ports, asset: str, change: str, document: Mapping[str, Any]) -> None:
        number = connection.scalar(sa.select(assets.c.journalled).where(assets.c.id == asset)) or 0
        connection.execute(assets.update().where(assets.c.id == asset).values(journalled=number + 1))
        key = f"{asset}/change-{number:06}-{ports.random.bytes(4).hex()}"
        body = {"change": change, "at": ports.clock.now(), **document}
        ports.store().put(Bucket.JOURNAL, key, journal._encode(body), if_absent=True)

    return method_of(journal, "append", wrong)


@contextmanager
def method_of(module: Any, name: str, wrong: Any) -> Iterator[None]:
    """Put another function in one module only."""
    right = getattr(module, name)
    setattr(module, name, wrong)
    try:
        yield
    finally:
        setattr(module, name, right)


# Bug → within how many histories it is found, from seed 0 on.
BUGS: Mapping[Bug, int] = {
    acknowledged_before_the_journal: 60,
    acknowledged_before_the_commit: 60,
    salt_anew_on_each_try: 60,
    anchored_before_its_parents: 60,
    nonce_used_again_after_a_crash: 60,
    lease_without_fence: 60,
    drop_noted_in_another_transaction: 60,
    completion_accepted_twice: 60,
    inputs_not_verified: 60,
    event_deleted_before_it_is_taken: 60,
    shared_blobs_erased: 60,
    known_bytes_are_anybodys: 60,
    changes_numbered_by_the_catalogue: 200,  # one history in forty
}
