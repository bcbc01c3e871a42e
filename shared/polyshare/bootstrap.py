"""The composition root: builds the ports from settings, each when it is first needed."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from polyshare.auth import Authenticator
from polyshare.errors import Misconfigured
from polyshare.ports import Bus, Clock, Inbox, Ledger, Random, Silent, Store, SystemClock, SystemRandom, Telemetry
from polyshare.settings import Settings, read_secret

if TYPE_CHECKING:
    from polyshare.api import InboxCredentials
    from polyshare.catalogue import Catalogue
    from polyshare.jobs.job import Runner
    from polyshare.store.keys import Given, Role


_ending = threading.Event()


def pace(came: int) -> float:
    """Seconds from one round of work that takes all there is to the next. The more came, the longer: together they cost
    less, and under load that leaves more for those who wait for an answer."""
    return min(0.25 + came / 50, 1.0)


@dataclass(frozen=True)
class Ports:
    """All that an operation can reach; the callables build on first use, so that nobody pays for the rest."""

    settings: Settings
    authenticator: Authenticator
    catalogue: Catalogue
    bus: Bus
    store: Callable[[], Store]
    runner: Callable[[], Runner]
    ledger: Callable[[], Ledger]
    inbox_credentials: Callable[[str], InboxCredentials]  # of an organisation
    inbox_elsewhere: Callable[[], Inbox] | None = None  # where the inbox is no bucket of the store
    clock: Clock = field(default_factory=SystemClock)
    random: Random = field(default_factory=SystemRandom)
    holder: str = field(default_factory=lambda: f"{os.getpid()}-{uuid.uuid4().hex[:8]}")  # who holds a lease
    wake: Callable[[], None] = lambda: None  # the relay, after a commit
    gather: Callable[[float, int], None] = lambda began, came: None  # wait for more to anchor since a round of so many
    telemetry: Telemetry = field(default_factory=Silent)
    ending: Callable[[], bool] = lambda: False  # whether this process was told to end: begin nothing long
    close: Callable[[], None] = lambda: None  # hand on what is left, once no operation runs any more

    def inbox(self) -> Inbox:
        """Where files are dropped."""
        from polyshare.store.inbox import StoreInbox

        return StoreInbox(self.store()) if self.inbox_elsewhere is None else self.inbox_elsewhere()

    def new_id(self) -> str:
        """A UUID of version 7 (RFC 9562): ordered by time, so that indexes stay compact."""
        milliseconds = int(self.clock.now() * 1000) & (1 << 48) - 1
        low = int.from_bytes(self.random.bytes(10), "big")
        value = milliseconds << 80 | 0x7 << 76 | (low >> 64 & 0xFFF) << 64 | 0b10 << 62 | low & (1 << 62) - 1
        return str(uuid.UUID(int=value))


@cache
def ports() -> Ports:
    """The ports of this process, from its environment."""
    return build(Settings.read(os.environ))


def begin_ending() -> None:
    """Tell the operations of this process that it ends."""
    _ending.set()


def is_ending() -> bool:
    return _ending.is_set()


def close() -> None:
    """Close the ports of this process, if it has any."""
    if ports.cache_info().currsize:
        ports().close()


def build(settings: Settings) -> Ports:
    """Raises Misconfigured."""
    from polyshare.catalogue import Catalogue
    from polyshare.telemetry import find

    relay, telemetry = Relay(), find(os.environ)
    catalogue = Catalogue(settings.database, pool=settings.database_pool)

    def close() -> None:
        relay.close()
        telemetry.close()
        catalogue.close()

    built = Ports(
        settings=settings,
        authenticator=Authenticator(settings.jwt_issuer, settings.jwks_file),
        catalogue=catalogue,
        bus=_bus(settings),
        store=cache(lambda: _store(settings)),
        runner=cache(lambda: _runner(settings)),
        ledger=cache(lambda: _ledger(settings)),
        inbox_credentials=lambda organisation: _inbox_credentials(settings, organisation),
        inbox_elsewhere=cache(lambda: _cloud_inbox(settings.inbox_url)) if settings.inbox_url else None,
        wake=relay.wake,
        gather=_gather,
        telemetry=telemetry,
        ending=is_ending,
        close=close,
    )
    relay.ports = built
    return built


class Relay:
    """Sends the outbox after a commit, in threads of its own; what they can't send, `sweep` does.

    They are a few, so that a slow taker holds up no other event. The first commit is sent at once; those that follow
    within `pace` are sent together, which costs the takers less than one by one.
    """

    _THREADS = 4
    _LAST = 5.0  # seconds in which what is being sent at the end must be taken; sweep sends the rest

    def __init__(self) -> None:
        self.ports: Ports | None = None
        self._changed = threading.Condition()
        self._due = False
        self._pausing = False  # a thread waits for its time to send all there will be by then
        self._next = 0.0  # when it is time, on the monotonic clock
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._closing = False

    def wake(self) -> None:
        with self._changed:
            self._due = True
            if self._pausing:
                return
            if not self._idle and len(self._threads) < self._THREADS:
                self._threads.append(threading.Thread(target=self._run, name="relay", daemon=True))
                self._threads[-1].start()
            self._changed.notify()

    def close(self) -> None:
        """Send once more what is due, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = time.monotonic() + self._LAST
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        import logging

        from polyshare.catalogue.outbox import deliver

        while self._wait():
            try:
                while self.ports is not None and (sent := deliver(self.ports)) and not self._closing:
                    self._next = time.monotonic() + pace(sent)
            except Exception:  # the relay must outlive any one event; sweep sends it again
                logging.getLogger("polyshare").exception("the relay could not deliver")

    def _wait(self) -> bool:
        """Until there is something to send and it is time to; False when there is not and never will be."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._closing or (self._due and not self._pausing))
            self._idle -= 1
            if not self._closing:
                self._pausing = True
                self._changed.wait(max(0.0, self._next - time.monotonic()))
            due = self._due
            self._pausing = self._due = False
            self._next = time.monotonic() + pace(0)
            return due


def _gather(began: float, came: int) -> None:
    """Sleep until it is time for the next round; never longer than its pace, should the clock be set meanwhile."""
    time.sleep(min(max(0.0, began + pace(came) - time.time()), pace(came)))


def _bus(settings: Settings) -> Bus:
    from polyshare.events import BrokerBus, HttpBus

    def token() -> str:
        return read_secret(settings.event_token_file, "event_token_file")

    return BrokerBus(settings.broker_url, token) if settings.broker_url else HttpBus(settings.functions_url, token)


def _store(settings: Settings) -> Store:
    from polyshare.ports import Bucket
    from polyshare.store.s3 import S3Store

    return S3Store(
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint or None,
        region=settings.s3_region,
        keys=_keys(settings),
        buckets={
            Bucket.BLOBS: settings.bucket_blobs,
            Bucket.JOURNAL: settings.bucket_journal,
            Bucket.INBOX: settings.bucket_inbox,
        },
    )


def _keys(settings: Settings) -> Given | Role:
    from polyshare.store.keys import SESSION_SECONDS, Given, Role

    if settings.s3_access_key_file or settings.s3_secret_key_file:
        return Given(
            read_secret(settings.s3_access_key_file, "s3_access_key_file"),
            read_secret(settings.s3_secret_key_file, "s3_secret_key_file"),
        )
    if settings.url_seconds > SESSION_SECONDS:
        raise Misconfigured(
            f"POLYSHARE_URL_SECONDS is {settings.url_seconds}: URLs signed by a role end with its session, so"
            f" {SESSION_SECONDS} is the most without POLYSHARE_S3_ACCESS_KEY_FILE"
        )
    return Role(settings.s3_region)


def _cloud_inbox(url: str) -> Inbox:
    from polyshare.store.inbox import CloudInbox

    return CloudInbox(url)


def _runner(settings: Settings) -> Runner:
    if settings.runner == "argo":
        from polyshare.jobs.argo import ArgoRunner
        from polyshare.jobs.kubernetes import Access, Api

        named = (settings.runner_api, settings.runner_token_file, settings.runner_ca_file, settings.runner_namespace)
        return ArgoRunner(Api(Access.of(*named)))
    if settings.runner == "local":
        from pathlib import Path

        from polyshare.jobs.local import LocalRunner

        return LocalRunner(Path(settings.runner_spool))
    raise Misconfigured(f"POLYSHARE_RUNNER is {settings.runner!r}: set it to local or argo")


def _ledger(settings: Settings) -> Ledger:
    from polyshare.ledger.chain import ChainLedger

    return ChainLedger.from_settings(settings)


def _inbox_credentials(settings: Settings, organisation: str) -> InboxCredentials:
    if settings.inbox_url:
        raise Misconfigured(
            f"the inbox is {settings.inbox_url}: its cloud's own access control says who may put objects below"
            f" {organisation}/ there (docs/deploy.md)"
        )
    if settings.inbox_role:
        from polyshare.store.inbox_session import inbox_session

        return inbox_session(settings, _keys(settings), organisation)
    if not settings.data:
        raise Misconfigured(
            "keys of the inbox are sessions of a role, and POLYSHARE_INBOX_ROLE names none: set it (docs/deploy.md)"
        )
    from pathlib import Path

    from polyshare.stack.inbox_keys import inbox_credentials

    return inbox_credentials(Path(settings.data), settings, organisation)
