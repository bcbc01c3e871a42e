"""The machine room of a history: server processes with relays, a runner, a miner, a timer, and the loss of it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from polyshare.assets import ANONYMOUS, Caller
from polyshare.auth import Authenticator
from polyshare.bootstrap import Ports
from polyshare.catalogue import Catalogue, outbox
from polyshare.catalogue.tables import metadata
from polyshare.errors import PolyshareError, Unavailable
from polyshare.events import ROUTES, SWEEP_DUE, Event
from polyshare.jobs.fake import FakeRunner
from polyshare.jobs.job import Job
from polyshare.operations.rebuild import rebuild
from polyshare.ports import Signed
from polyshare.store.memory import MemoryStore
from tests.simulation.faults import (
    Database,
    Faults,
    FaultyCatalogue,
    FaultyLedger,
    FaultyRunner,
    FaultyStore,
    Plan,
    SlowLedger,
)
from tests.simulation.scheduler import Life, Scheduler, Task
from tests.world import ManualClock, SeededRandom, serve, settings_for, take_event

T = TypeVar("T")
SERVERS = ("server-1", "server-2")
UPLOAD_SECONDS = 150
_TIMEOUT = 60.0  # seconds that a caller waits for an answer


class Lost(Exception):
    """No answer came: the request may have had its effect, may have it later, or never."""


class Cluster:
    """All processes of one history. Everything drawn is drawn from one seed."""

    def __init__(self, seed: int, *, trace: Callable[[str], None]) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.clock = ManualClock()
        self.scheduler = Scheduler(self.random, self.clock)
        self.plan = Plan.drawn(self.random)
        self._trace = trace
        self.store = MemoryStore(self.clock)
        self.ledger = SlowLedger(self.clock.now)
        self.settings = settings_for(self.ledger, upload_seconds=UPLOAD_SECONDS, hung_seconds=60)
        self.database = Database(_empty_catalogue(), self.scheduler)
        self.queue: dict[tuple[str, int], Job] = {}  # of the runner, on its disk
        self.lives: dict[str, Life] = {}
        self.ports: dict[str, Ports] = {}
        self.unexpected: list[str] = []
        self.is_down = False  # while the database is being restored
        self.starts = 0
        self.wanted: tuple[str, ...] = ()  # the only intentions of clients; all, if there are none
        self.runner_class: type[FakeRunner] = FakeRunner

    def trace(self, text: str) -> None:
        self._trace(f"{self.clock.time - 1_700_000_000:9.3f} {text}")

    def start(self) -> None:
        for name in SERVERS:
            self.scheduler.spawn(f"{name} supervisor", lambda name=name: self._supervise(name))  # type: ignore[misc]
        self.scheduler.spawn("miner", self._mine)
        self.scheduler.spawn("timer", self._tick)
        self.scheduler.spawn("runner", self._run_jobs)

    # --- calls between processes ----------------------------------------------------------------------------------

    def ask(
        self,
        name: str,
        path: str,
        caller: Caller,
        body: Any = None,
        *,
        key: str | None = None,
        token: str = "",
        once: bool = False,
    ) -> Any:
        """A request to a function on some server. Raises what the function raises, or Lost.

        `once`: it arrives at most once, and when no answer comes it is not under way any more.
        """
        return self._request(
            f"{name}{path}", lambda ports: serve(ports, name, path, caller, body, key=key, token=token), once
        )

    def publish(self, sender: Faults, sent: Sequence[Event]) -> list[bool]:
        """Post events to their functions, at once and in any order; False for what no answer came for."""
        posted = [[self._post(name, event) for name in ROUTES.get(event.type, ())] for event in sent]
        tasks = [task for tasks in posted for task in tasks if task is not None]
        self.scheduler.wait(lambda: all(task.done for task in tasks), _TIMEOUT)
        taken = []
        for tasks_of_one in posted:
            ok = True
            for task in tasks_of_one:
                ok &= task is not None and task.done and task.value is True and not self.plan.hits(self.plan.lost)
            taken.append(ok)
        sender.after("publish")
        return taken

    def hint(self, event: Event) -> None:
        """Post an event and ask for no answer, as a storage's notification is."""
        for name in ROUTES[event.type]:
            self._post(name, event)

    def _post(self, name: str, event: Event) -> Task | None:
        if self.plan.hits(self.plan.lost):
            self.trace(f"{event.type} for {name} is lost on its way")
            return None
        if self.plan.hits(self.plan.lost):
            self.trace(f"{event.type} for {name} arrives twice")
            self._serve(f"{name} takes {event.type}", lambda ports: take_event(ports, name, event))
        return self._serve(f"{name} takes {event.type}", lambda ports: take_event(ports, name, event))

    def _request(self, what: str, work: Callable[[Ports], Any], once: bool) -> Any:
        self.scheduler.pause()
        if self.plan.hits(self.plan.lost):
            raise Lost
        if not once and self.plan.hits(self.plan.lost):
            self.trace(f"{what} arrives twice")
            self._serve(what, work)
        task = self._serve(what, work)
        if task is None:
            raise Lost
        self.scheduler.wait(lambda: task.done, 1e9 if once else _TIMEOUT)
        if not task.done or self.plan.hits(self.plan.lost):
            raise Lost
        if isinstance(task.error, PolyshareError):
            raise task.error
        if task.error is not None:
            raise Lost
        return task.value

    def _serve(self, what: str, work: Callable[[Ports], Any]) -> Task | None:
        """Begin a request on some server; None if the one it goes to is down."""
        name = self.random.choice(SERVERS)
        life = self.lives.get(name)
        if life is None or life.dead or self.is_down:
            return None
        ports = self.ports[name]
        return self.scheduler.spawn(f"{name}: {what}", lambda: self._guarded(what, lambda: work(ports)), life)

    def _guarded(self, what: str, work: Callable[[], Any]) -> Any:
        """What a process does with an error that nobody expected: it is noted, as a fault of the product."""
        try:
            return work()
        except PolyshareError:
            raise
        except Exception as error:
            self.trace(f"{what} fails: {error!r}")
            self.unexpected.append(f"{what}: {error!r}")
            raise

    # --- processes ------------------------------------------------------------------------------------------------

    def _supervise(self, name: str) -> None:
        """Start a server again some time after it died."""
        while True:
            life, faults = self._new_life(name)
            self.lives[name] = life
            relay = Relay(self, faults)
            self.ports[name] = relay.ports = self.ports_of(life, faults, relay)
            self.scheduler.spawn(f"{name} relay", relay.run, life)
            self.scheduler.wait(lambda life=life: life.dead, 1e9)  # type: ignore[misc]
            self.scheduler.sleep(self.random.choice((0.1, 1.0, 6.0, 20.0)))
            self.scheduler.wait(lambda: not self.is_down, 1e9)

    def _new_life(self, name: str) -> tuple[Life, Faults]:
        self.starts += 1
        life = Life(f"{name}/{self.starts}")
        return life, Faults(life, self.plan, self.scheduler, self.trace)

    def ports_of(self, life: Life, faults: Faults, relay: Relay) -> Ports:
        store = FaultyStore(self.store, faults, self.database)
        runner = FaultyRunner(FakeRunner(_NoLine(), self.clock.now, self.queue), faults)
        ledger = FaultyLedger(self.ledger, faults)
        return Ports(
            settings=self.settings,
            authenticator=Authenticator(""),
            catalogue=FaultyCatalogue(self.database, faults),
            bus=_Bus(self, faults),
            store=lambda: store,  # type: ignore[arg-type,return-value]
            runner=lambda: runner,
            ledger=lambda: ledger,
            inbox_credentials=_no_credentials,
            clock=self.clock,
            random=SeededRandom(f"{self.seed}/{life.name}"),
            holder=life.name,
            wake=relay.wake,
        )

    def _mine(self) -> None:
        while True:
            self.scheduler.sleep(self.random.choice((0.5, 1.0, 1.0, 3.0)))
            if self.plan.hits(self.plan.crash * 3):
                self.trace("the node restarts and forgets its pool")
                self.ledger.forget_pool()
            if self.plan.hits(self.plan.delay):
                self.trace("no block for a while")
                self.scheduler.sleep(30.0)
            self.ledger.mine()

    def _tick(self) -> None:
        count = 0
        while True:
            self.scheduler.sleep(self.random.choice((15.0, 30.0) if self.plan.is_over else (2.0, 10.0, 20.0)))
            count += 1
            event = Event(SWEEP_DUE, f"sweep-{count}")
            self._serve("sweep", lambda ports, event=event: take_event(ports, "sweep", event))  # type: ignore[misc]

    def _run_jobs(self) -> None:
        """The runner's daemon: it dies and begins again with what its disk has."""
        while True:
            life, faults = self._new_life("runner")
            task = self.scheduler.spawn("runner daemon", lambda: self._daemon(life, faults), life)  # noqa: B023
            self.scheduler.wait(lambda task=task: task.done, 1e9)  # type: ignore[misc]
            self.scheduler.sleep(self.random.choice((0.1, 5.0)))

    def _daemon(self, life: Life, faults: Faults) -> None:
        runner = self.runner_class(_Line(self, faults), self.clock.now, self.queue)
        while True:
            try:
                if not runner.run_next():
                    self.scheduler.wait(lambda: bool(self.queue), 5.0)
            except ConnectionError:
                self.scheduler.sleep(1.0)
            except PolyshareError as error:
                self.trace(f"the runner gives up a step: {error.message}")
                self.scheduler.sleep(1.0)

    # --- the loss of the database ---------------------------------------------------------------------------------

    def lose_database(self) -> None:
        """All servers die, the database is gone, and it is rebuilt; begun anew for as long as that dies as well."""
        self.trace("the database is lost")
        self.is_down = True
        for life in self.lives.values():
            life.dead = True
        self.scheduler.sleep(1.0)
        while True:
            with self.database.held():
                self.database.epoch += 1
                _empty(self.database.catalogue)
            life, faults = self._new_life("rebuild")
            ports = self.ports_of(life, faults, Relay(self, faults))
            task = self.scheduler.spawn("rebuild", lambda: self._guarded("rebuild", lambda: rebuild(ports)), life)  # noqa: B023
            self.scheduler.wait(lambda task=task: task.done, 1e9)  # type: ignore[misc]
            if task.error is None:
                break
            life.dead = True
        self.trace(f"rebuilt: {task.value}")
        self.is_down = False

    def end_faults(self) -> None:
        self.plan.is_over = True


class Relay:
    """The thread of a process that sends its outbox after a commit; it dies with it."""

    def __init__(self, cluster: Cluster, faults: Faults) -> None:
        self._cluster, self._faults = cluster, faults
        self._is_due = False
        self.ports: Ports | None = None

    def wake(self) -> None:
        self._is_due = True

    def run(self) -> None:
        scheduler = self._cluster.scheduler
        while True:
            scheduler.wait(lambda: self._is_due, 1e9)
            self._is_due = False
            try:
                while outbox.deliver(self.ports):  # type: ignore[arg-type]
                    pass
            except Unavailable:
                pass


class _Bus:
    def __init__(self, cluster: Cluster, faults: Faults) -> None:
        self._cluster, self._faults = cluster, faults

    def publish(self, sent: Sequence[Event]) -> list[bool]:
        self._faults.before("publish")
        return self._cluster.publish(self._faults, sent)


class _Line:
    """How the runner reaches the functions and the store, with faults."""

    def __init__(self, cluster: Cluster, faults: Faults) -> None:
        self._cluster, self._faults = cluster, faults

    def post(self, path: str, token: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        self._call(f"post {path}", lambda: None)
        try:
            answer = self._cluster.ask("complete_job", f"/{path}", ANONYMOUS, body, token=token)
        except Lost as error:
            raise ConnectionError("no answer") from error
        except PolyshareError as error:
            return error.status, error.message
        return (204, None) if answer is None else (200, msgspec.to_builtins(answer))

    def get(self, url: str, headers: Mapping[str, str]) -> bytes | None:
        status, data = self._call("fetch", lambda: self._cluster.store.read(Signed(url, headers)))
        if data and not url.startswith("memory://inbox/") and self._cluster.plan.hits(self._cluster.plan.lost):
            data = bytes([data[0] ^ 1]) + data[1:]  # a bit that flips on its way
        return data if status == 200 else None

    def put(self, url: str, headers: Mapping[str, str], data: bytes) -> None:
        signed = Signed(url, headers)
        status = self._call("upload", lambda: self._cluster.store.request("PUT", signed, data))
        if status != 200:
            raise ConnectionError(f"PUT was answered {status}")

    def _call(self, what: str, work: Callable[[], T]) -> T:
        try:
            return self._faults.call(what, work)
        except Unavailable as error:
            raise ConnectionError(error.message) from error


class _NoLine:
    """A server hands jobs over; it never runs one."""

    def post(self, path: str, token: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        raise AssertionError(path)

    def get(self, url: str, headers: Mapping[str, str]) -> bytes | None:
        raise AssertionError(url)

    def put(self, url: str, headers: Mapping[str, str], data: bytes) -> None:
        raise AssertionError(url)


def _no_credentials(organisation: str) -> Any:
    raise AssertionError(organisation)


@cache
def _shared_catalogue() -> Catalogue:
    """One a process of ours: its engine has the statements compiled."""
    return Catalogue("sqlite://")


def _empty_catalogue() -> Catalogue:
    catalogue = _shared_catalogue()
    _empty(catalogue)
    return catalogue


def _empty(catalogue: Catalogue) -> None:
    with catalogue.transaction() as connection:
        for table in metadata.sorted_tables:
            connection.execute(sa.delete(table))
