"""Ports that crash their process, fail, and are slow, before or after the effect of every call, as the plan draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import sqlalchemy as sa

from polyshare.catalogue import Catalogue
from polyshare.errors import Unavailable
from polyshare.jobs.job import Job, Runner, RunnerState
from polyshare.ledger.fake import FakeLedger
from polyshare.ledger.record import record_of
from polyshare.ports import AssetState, Bucket, Head, Listed, Put, Receipt, Signed, SignedTransaction, TrustRoot
from polyshare.store.memory import MemoryStore
from tests.simulation.scheduler import Crash, Life, Scheduler

T = TypeVar("T")


@dataclass
class Plan:
    """How often what goes wrong, in one history. All chances are of one port call."""

    random: Random
    crash: float
    error: float
    delay: float
    lost: float  # of a request or its answer
    crashes_left: int
    is_over: bool = False

    @classmethod
    def drawn(cls, random: Random) -> Plan:
        """Calm, nervous or wild; some histories have one sort of fault only, so that it is not drowned by others."""

        def rate(*choices: float) -> float:
            return random.choice(choices)

        return cls(
            random,
            crash=rate(0, 0.002, 0.006, 0.015),
            error=rate(0, 0, 0.004, 0.02),
            delay=rate(0, 0.004, 0.015),
            lost=rate(0, 0.01, 0.05),
            crashes_left=random.choice((2, 4, 8)),
        )

    def hits(self, chance: float) -> bool:
        return not self.is_over and chance > 0 and self.random.random() < chance


class Faults:
    """What stands between one life of a process and the world."""

    def __init__(self, life: Life, plan: Plan, scheduler: Scheduler, trace: Callable[[str], None]) -> None:
        self.life, self.plan, self.scheduler, self.trace = life, plan, scheduler, trace

    def call(self, what: str, work: Callable[[], T], *, most: float = 60.0) -> T:
        """Do one port call; `most` bounds in seconds how slow it may be."""
        self.before(what, most=most)
        value = work()
        self.after(what, most=most)
        return value

    def before(self, what: str, *, most: float = 60.0) -> None:
        self._alive()
        self.scheduler.pause()
        self._alive()
        self._strike(what, "before", most)

    def after(self, what: str, *, most: float = 60.0) -> None:
        self._strike(what, "after", most)

    def _strike(self, what: str, when: str, most: float) -> None:
        plan = self.plan
        if plan.crashes_left > 0 and plan.hits(plan.crash):
            plan.crashes_left -= 1
            self.trace(f"{self.life.name} crashes {when} {what}")
            self.life.dead = True
            raise Crash
        if plan.hits(plan.error):
            self.trace(f"{self.life.name}: {what} fails {when} its effect")
            raise Unavailable(f"{what} does not answer")
        if plan.hits(plan.delay):
            seconds = min(most, plan.random.choice((0.2, 2.0, 8.0, 15.0, 45.0)))
            self.trace(f"{self.life.name}: {what} takes {seconds} s {when} its effect")
            self.scheduler.sleep(seconds)
            self._alive()

    def _alive(self) -> None:
        if self.life.dead:
            raise Crash


class Database:
    """The one database of a history, whose transactions are one after the other, and which can be lost."""

    def __init__(self, catalogue: Catalogue, scheduler: Scheduler) -> None:
        self.catalogue, self._scheduler = catalogue, scheduler
        self.holder: object | None = None
        self.epoch = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        holder = self._scheduler.current
        if not self._scheduler.wait(lambda: self.holder is None, 30.0):
            raise Unavailable("the database is locked")
        self.holder = holder
        try:
            yield
        finally:
            self.holder = None


class FaultyCatalogue(Catalogue):
    """See Catalogue. Faults come before a transaction begins, before it commits (it is rolled back) and after."""

    def __init__(self, database: Database, faults: Faults) -> None:
        self._database, self._faults = database, faults

    def transaction(self, *, flushed: bool = True) -> AbstractContextManager[sa.Connection]:
        begin = self._database.catalogue.transaction
        return self._with_faults(lambda: begin(flushed=flushed), "transaction")

    def reading(self) -> AbstractContextManager[sa.Connection]:
        return self._with_faults(self._database.catalogue.reading, "reading")

    @contextmanager
    def _with_faults(
        self, begin: Callable[[], AbstractContextManager[sa.Connection]], what: str
    ) -> Iterator[sa.Connection]:
        faults = self._faults
        faults.before(f"{what}")
        with self._database.held(), begin() as connection:
            yield connection
            if what == "transaction":
                faults.before("commit", most=1.0)
        if what == "transaction":
            faults.after("commit")


class FaultyStore:
    """See ports.Store."""

    def __init__(self, store: MemoryStore, faults: Faults, database: Database) -> None:
        self._store, self._faults, self._database = store, faults, database

    def _call(self, what: str, work: Callable[[], T]) -> T:
        in_transaction = self._database.holder is self._faults.scheduler.current
        return self._faults.call(what, work, most=1.0 if in_transaction else 60.0)

    def put(self, bucket: Bucket, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        return self._call(f"put {key}", lambda: self._store.put(bucket, key, data, if_absent=if_absent))

    def put_all(self, puts: Sequence[Put]) -> None:
        for one in puts:
            self.put(one.bucket, one.key, one.data, if_absent=one.if_absent)

    def get(self, bucket: Bucket, key: str) -> bytes:
        return self._call(f"get {key}", lambda: self._store.get(bucket, key))

    def head(self, bucket: Bucket, key: str) -> Head | None:
        return self._call(f"head {key}", lambda: self._store.head(bucket, key))

    def list(self, bucket: Bucket, prefix: str = "", *, after: str = "") -> Iterator[Listed]:
        return iter(self._call(f"list {prefix}", lambda: list(self._store.list(bucket, prefix, after=after))))

    def delete(self, bucket: Bucket, keys: Iterable[str]) -> None:
        for key in keys:
            self._call(f"delete {key}", lambda key=key: self._store.delete(bucket, [key]))  # type: ignore[misc]

    def sign_get(self, bucket: Bucket, key: str, *, seconds: int, if_match: str | None = None) -> Signed:
        return self._store.sign_get(bucket, key, seconds=seconds, if_match=if_match)

    def sign_put(self, bucket: Bucket, key: str, *, sha256: bytes, seconds: int) -> Signed:
        return self._store.sign_put(bucket, key, sha256=sha256, seconds=seconds)

    def start_multipart(self, bucket: Bucket, key: str) -> str:
        return self._call(f"start {key}", lambda: self._store.start_multipart(bucket, key))

    def sign_part(self, bucket: Bucket, key: str, upload: str, part: int, *, sha256: bytes, seconds: int) -> Signed:
        return self._store.sign_part(bucket, key, upload, part, sha256=sha256, seconds=seconds)

    def list_parts(self, bucket: Bucket, key: str, upload: str) -> dict[int, int]:
        return self._call(f"parts {key}", lambda: self._store.list_parts(bucket, key, upload))

    def complete_multipart(self, bucket: Bucket, key: str, upload: str, parts: Sequence[bytes]) -> None:
        self._call(f"complete {key}", lambda: self._store.complete_multipart(bucket, key, upload, parts))

    def abort_multipart(self, bucket: Bucket, key: str, upload: str) -> None:
        self._call(f"abort {key}", lambda: self._store.abort_multipart(bucket, key, upload))


class SlowLedger(FakeLedger):
    """A chain whose blocks come when the miner says, whose pool may forget, and which remembers all it was sent."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(mining=False, now=now)
        self.sent: list[bytes] = []

    def send(self, raw: bytes) -> None:
        self.sent.append(raw)
        super().send(raw)

    def registrations(self) -> list[tuple[int, bytes]]:
        """(kind, address) of each record, in the order they were registered."""
        return list(self._contracts.values())

    def record(self, address: bytes) -> bytes:
        return record_of(self.asset(address).code)[1]

    def forget_pool(self) -> None:
        """A node that restarts has only what is in blocks."""
        self._waiting.clear()


class FaultyLedger:
    """See ports.Ledger."""

    def __init__(self, ledger: SlowLedger, faults: Faults) -> None:
        self._ledger, self._faults = ledger, faults

    def trust_root(self) -> TrustRoot:
        return self._ledger.trust_root()

    def sign(self, entries: Any, nonce: int) -> SignedTransaction:
        return self._faults.call(f"sign nonce {nonce}", lambda: self._ledger.sign(entries, nonce))

    def send(self, raw: bytes) -> None:
        self._faults.call("send", lambda: self._ledger.send(raw))

    def receipt(self, transaction: bytes, *, wait: float = 0) -> Receipt | None:
        self._faults.before("receipt")
        self._faults.scheduler.wait(lambda: self._ledger.receipt(transaction) is not None, wait)
        found = self._ledger.receipt(transaction)
        self._faults.after("receipt")
        return found

    def writer(self) -> bytes:
        return self._ledger.writer()

    def next_nonce(self, sender: bytes | None = None) -> int:
        return self._faults.call("next nonce", lambda: self._ledger.next_nonce(sender))

    def capacity(self) -> int:
        return self._ledger.capacity()

    def asset(self, address: bytes) -> AssetState:
        return self._faults.call("asset", lambda: self._ledger.asset(address))


class FaultyRunner:
    """See jobs.job.Runner."""

    def __init__(self, runner: Runner, faults: Faults) -> None:
        self._runner, self._faults = runner, faults

    def submit(self, job: Job) -> None:
        self._faults.call(f"submit {job.action} attempt {job.attempt}", lambda: self._runner.submit(job))

    def cancel(self, job_id: str) -> None:
        self._faults.call("cancel", lambda: self._runner.cancel(job_id))

    def state(self, job_id: str) -> RunnerState | None:
        return self._faults.call("state", lambda: self._runner.state(job_id))
