"""The whole system on fakes with real behaviour: every function, event and job step runs, in one process, in memory."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa

from polyshare import api
from polyshare.assets import ANONYMOUS, Caller, Role
from polyshare.auth import Authenticator
from polyshare.bootstrap import Ports
from polyshare.catalogue import Catalogue, outbox
from polyshare.errors import Invalid, NotFound, PolyshareError, Unauthenticated, Unavailable
from polyshare.events import ROUTES, SWEEP_DUE, Event
from polyshare.hashing import digest_bytes, part_range
from polyshare.http import Call, Function
from polyshare.jobs.fake import FakeRunner
from polyshare.ledger.fake import FakeLedger
from polyshare.ledger.record import trust_root_document
from polyshare.ports import Bucket, Ledger, Signed, Store
from polyshare.settings import Settings
from polyshare.store.memory import MemoryStore

IMAGE = "oci:example.org/trainer@sha256:" + "5e" * 32
ALICE = Caller("alice", {"acme": Role.PUBLISHER})
BOB = Caller("bob", {"acme": Role.PUBLISHER})
READER = Caller("rita", {"acme": Role.READER})
ADMIN = Caller("ada", {"acme": Role.ADMIN})
CAROL = Caller("carol", {"other": Role.PUBLISHER})
DAVE = Caller("dave", {"third": Role.READER})
EVERYBODY = (ALICE, BOB, READER, ADMIN, CAROL, DAVE, ANONYMOUS)

Answered = tuple[int, Any]  # HTTP status, and the body or the error


class ManualClock:
    """Stands until it is moved."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.time = start

    def now(self) -> float:
        return self.time


class SeededRandom:
    """Bytes that never repeat, the same for the same seed."""

    def __init__(self, seed: object = 0) -> None:
        self._seed, self._count = seed, itertools.count()

    def bytes(self, count: int) -> bytes:
        return hashlib.shake_128(f"{self._seed}/{next(self._count)}".encode()).digest(count)


@cache
def function(name: str) -> Function:
    """A function by its name, as functions-framework finds it."""
    found: Function = importlib.import_module(f"functions.{name}.handler").function
    return found


def serve(
    ports: Ports, name: str, path: str, caller: Caller, body: Any = None, *, key: str | None = None, token: str = ""
) -> Any:
    """POST to a function (GET without a body): what its route answers with. Raises what its operation raises."""
    asked, _, query = path.partition("?")
    method = "GET" if body is None else "POST"
    for route in function(name).routes:
        match = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.path.rstrip("/")) or "/", asked)
        if match is None or route.method != method:
            continue
        if route.auth == "user" and not caller.subject:
            raise Unauthenticated("this needs a token")
        parsed = None if route.body is None else api.decode(msgspec.json.encode(body), route.body)
        names = {name: value.replace("%2F", "/") for name, value in match.groupdict().items()}
        pairs = dict(pair.split("=", 1) for pair in query.split("&") if pair)
        answer = route.handler(Call(ports, caller, names, pairs, parsed, token, key))
        if method == "POST":
            ports.wake()
        return answer.body  # type: ignore[union-attr]
    raise NotFound(f"{name} has no {method} {asked}")


def take_event(ports: Ports, name: str, event: Event) -> bool:
    """Hand an event to a function; whether it took it or refused it for good (as the HTTP side maps errors)."""
    taker = function(name).on_event
    assert taker is not None
    try:
        taker(ports, event)
    except Unavailable:
        return False
    except PolyshareError:
        return True
    ports.wake()
    return True


class MemoryBus:
    """Queues events and delivers them when it is told to, in the order that it is told."""

    def __init__(self) -> None:
        self.queue: list[tuple[str, Event]] = []  # (function, event)

    def publish(self, sent: Any) -> list[bool]:
        self.queue += [(name, event) for event in sent for name in ROUTES.get(event.type, ())]
        return [True] * len(sent)


@dataclass
class Files:
    """Files in memory, and how an API call names them."""

    contents: Mapping[str, bytes]

    def listed(self, *, brought: bool = False) -> list[dict[str, Any]]:
        """`brought`: with their bytes."""
        listed = [file_json(path, data) for path, data in self.contents.items()]
        return [
            {**file, "data": b64encode(self.contents[file["path"]]).decode()} if brought else file for file in listed
        ]

    def parts(self, path: str) -> list[bytes]:
        data = self.contents[path]
        count = digest_bytes(data).parts
        return [data[start : start + n] for start, n in (part_range(len(data), p + 1) for p in range(count))]


def file_json(path: str, data: bytes) -> dict[str, Any]:
    """{path, size, digest, parts?} of bytes."""
    digest = digest_bytes(data)
    listed: dict[str, Any] = {"path": path, "size": len(data), "digest": str(digest)}
    if digest.parts > 1:
        ranges = (part_range(len(data), part + 1) for part in range(digest.parts))
        listed["parts"] = [hashlib.sha256(data[start : start + n]).hexdigest() for start, n in ranges]
    return listed


def settings_for(ledger: FakeLedger, **changes: Any) -> Settings:
    named: dict[str, Any] = {
        "database": "sqlite://",
        "s3_endpoint": "",
        "s3_access_key_file": "",
        "s3_secret_key_file": "",
        "functions_url": "http://functions.invalid/{function}",
        "event_token_file": "",
        "jwt_issuer": "",
        "jwks_file": "",
        "trust_root": trust_root_document(ledger.trust_root()),
    }
    return Settings(**{**named, **changes})


class Line:
    """How the fake runner reaches complete_job and the store, in this process."""

    def __init__(self, ports: Callable[[], Ports], store: MemoryStore) -> None:
        self._ports, self._store = ports, store

    def post(self, path: str, token: str, body: Mapping[str, Any]) -> Answered:
        try:
            answer = serve(self._ports(), "complete_job", f"/{path}", ANONYMOUS, body, token=token)
        except PolyshareError as error:
            return error.status, error.message
        return (204, None) if answer is None else (200, msgspec.to_builtins(answer))

    def get(self, url: str, headers: Mapping[str, str]) -> bytes | None:
        status, data = self._store.read(Signed(url, headers))
        return data if status == 200 else None

    def put(self, url: str, headers: Mapping[str, str], data: bytes) -> None:
        status = self._store.request("PUT", Signed(url, headers), data)
        if status != 200:
            raise ConnectionError(f"PUT was answered {status}")


@dataclass
class World:
    """One process of everything. `settle` lets what is due happen until nothing is."""

    seed: object = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.ledger = FakeLedger(now=self.clock.now)
        self.bus = MemoryBus()
        self.runner = FakeRunner(Line(lambda: self.ports, self.store), self.clock.now)
        self.catalogue = Catalogue("sqlite://")
        store: Store = self.store
        ledger: Ledger = self.ledger
        self.ports = Ports(
            settings=settings_for(self.ledger, **self.settings),
            authenticator=Authenticator(""),
            catalogue=self.catalogue,
            bus=self.bus,
            store=lambda: store,
            runner=lambda: self.runner,
            ledger=lambda: ledger,
            inbox_credentials=_no_credentials,
            clock=self.clock,
            random=SeededRandom(self.seed),
            holder="world",
        )

    # --- what a client does ---------------------------------------------------------------------------------------

    def post(
        self, name: str, path: str, body: Any, caller: Caller = ALICE, *, key: str | None = None, token: str = ""
    ) -> Any:
        self.clock.time += 0.01
        return serve(self.ports, name, path, caller, body, key=key, token=token)

    def get(self, name: str, path: str, caller: Caller = ALICE) -> Any:
        return serve(self.ports, name, path, caller)

    def upload(
        self, name: str, answer: Any, files: Files, caller: Caller = ALICE, only: set[str] | None = None
    ) -> None:
        """PUT what is missing; `only` leaves the others out."""
        for path in answer.missing:
            if only is not None and path not in only:
                continue
            for number, data in enumerate(files.parts(path), 1):
                asked = {"path": path, "part": number, "sha256": hashlib.sha256(data).hexdigest()}
                signed = self.post(name, f"/{answer.id}/urls", {"parts": [asked]}, caller).urls[0]
                if signed is not None:
                    assert self.store.request("PUT", Signed(signed.url, signed.headers), data) == 200

    def register(
        self, name: str, path: str, body: Any, files: Files, caller: Caller = ALICE, key: str | None = None
    ) -> api.Registered:
        answer = self.post(name, path, body, caller, key=key)
        if isinstance(answer, api.Uploading):
            self.upload(name, answer, files, caller)
            answer = self.post(name, f"/{answer.id}/confirm", {}, caller)
        assert isinstance(answer, api.Registered)
        return answer

    def dataset(
        self,
        contents: Mapping[str, bytes] | None = None,
        caller: Caller = ALICE,
        *,
        key: str | None = None,
        brought: bool = False,
        **more: Any,
    ) -> api.Registered:
        files = Files(contents or {"train/a.csv": b"1,2\n", "test/b.csv": b"3,4\n"})
        body = {"files": files.listed(brought=brought), **more}
        return self.register("register_dataset", "/", body, files, caller, key)

    def imported(
        self,
        contents: Mapping[str, bytes] | None = None,
        caller: Caller = ALICE,
        *,
        key: str | None = None,
        **more: Any,
    ) -> api.Registered:
        files = Files(contents or {"model.bin": b"weights"})
        return self.register("register_model", "/imported", {"files": files.listed(), **more}, files, caller, key)

    def model(
        self,
        dataset: str,
        caller: Caller = ALICE,
        *,
        source: Mapping[str, bytes] | None = None,
        key: str | None = None,
        **more: Any,
    ) -> api.Registered:
        files = Files(source or {})
        body = {"dataset": dataset, "image": IMAGE, "source": files.listed(), **more}
        return self.register("register_model", "/", body, files, caller, key)

    def govern(self, what: str, ref: str, body: Any, caller: Caller = ALICE) -> Any:
        return self.post("govern", f"/{ref}/{what}", body, caller)

    def drop(self, prefix: str, contents: Mapping[str, bytes], marker: bytes | None = b"{}") -> None:
        """Put files in the inbox, and the marker last."""
        for path, data in contents.items():
            self.store.put(Bucket.INBOX, prefix + path, data)
        if marker is not None:
            self.clock.time += 1
            self.store.put(Bucket.INBOX, prefix + "dataset.json", marker)

    # --- what the platform does -----------------------------------------------------------------------------------

    def deliver(self) -> int:
        """Send the outbox and hand each event to its functions; how many there were."""
        count = 0
        while outbox.deliver(self.ports) or self.bus.queue:
            queued, self.bus.queue = self.bus.queue, []
            for name, event in queued:
                count += 1
                assert take_event(self.ports, name, event), (name, event)
        return count

    def sweep(self) -> None:
        assert take_event(self.ports, "sweep", Event(SWEEP_DUE, self.ports.new_id()))

    def settle(self, *, sweeps: int = 0) -> None:
        """Deliver events and run jobs until there are none; then sweep and again, as often as told."""
        for left in range(sweeps, -1, -1):
            while self.deliver() or self.runner.run_next():
                self.clock.time += 0.1
            if left:
                self.clock.time += 61.0
                self.sweep()

    def lose_database(self) -> None:
        """The database's files are gone; the process begins again on an empty one."""
        self.catalogue = Catalogue("sqlite://")
        self.bus.queue = []
        self.ports = rebuilt_on(self.ports, self.catalogue)

    # --- looking --------------------------------------------------------------------------------------------------

    def rows(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        with self.catalogue.reading() as connection:
            return list(connection.execute(query))

    def row(self, table: sa.Table, key: str) -> sa.Row[Any]:
        with self.catalogue.reading() as connection:
            return connection.execute(sa.select(table).where(table.c.id == key)).one()


def rebuilt_on(ports: Ports, catalogue: Catalogue, **changes: Any) -> Ports:
    """The same process on another catalogue, and with other ports where they are given."""
    return replace(ports, catalogue=catalogue, **changes)


def with_store(ports: Ports, store: Store) -> Ports:
    return replace(ports, store=lambda: store)


def _no_credentials(organisation: str) -> api.InboxCredentials:
    raise Invalid(f"{organisation} needs no inbox key here")
