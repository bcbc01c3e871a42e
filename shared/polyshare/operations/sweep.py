"""Sweep: takes on what a crash, a lost event or a lost notification left behind. Run by a timer; again is harmless."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import sqlalchemy as sa

from polyshare import events
from polyshare.assets import State
from polyshare.bootstrap import Ports
from polyshare.catalogue import outbox, tables
from polyshare.catalogue.locks import lock_asset
from polyshare.catalogue.tables import assets, idempotency, inbox, inbox_drops, jobs, uploads, writes
from polyshare.errors import PolyshareError
from polyshare.jobs.job import RunState
from polyshare.operations import inbox as drops
from polyshare.operations.attempts import ATTEMPTS, start
from polyshare.operations.govern import finish_erasing
from polyshare.operations.register import acknowledge
from polyshare.operations.results import fail, finish
from polyshare.operations.uploads import drop
from polyshare.ports import Silent

_SETTLED = 5.0  # seconds after which a step that normally takes milliseconds is taken for lost
_SILENT = 60.0  # seconds without a word after which a running job's runner is asked
_DEAD_SECONDS = 60.0  # until what a broker gave up is sent again
_REMEMBERED = 30 * 86_400.0  # seconds that events and idempotency keys are kept
_WAITING = (
    ("polyshare.writes", writes, ("pending", "sent")),
    ("polyshare.jobs", jobs, ("waiting", "queued", "running", "publishing")),
)
_log = logging.getLogger("polyshare")


def sweep(ports: Ports) -> None:
    """Each duty by itself, so that one that can't be done now does not hold up the others."""
    duties: tuple[Callable[[Ports], None], ...] = (
        _deliver,
        _acknowledge_frozen,
        _finish_jobs,
        _start_waiting,
        _recover_jobs,
        _anchor_pending,
        _look_in_inbox,
        _report_drops,
        _finish_erasures,
        _drop_expired_uploads,
        _forget,
    )
    for duty in duties:
        if ports.ending():
            return
        began, name, outcome = time.perf_counter(), duty.__name__.strip("_"), "done"
        try:
            duty(ports)
        except PolyshareError as error:
            outcome = "failed"
            _log.warning("sweep: %s: %s", name, error.message)
        ports.telemetry.measure("polyshare.sweep.duty", time.perf_counter() - began, duty=name, outcome=outcome)
    _measure(ports)


def _measure(ports: Ports) -> None:
    """What waits, for who looks at the whole: told by sweep alone, which runs again and again anyway."""
    if isinstance(ports.telemetry, Silent):
        return
    with ports.catalogue.reading() as connection:
        waiting = connection.scalar(sa.select(sa.func.count()).select_from(tables.outbox))
        ports.telemetry.measure("polyshare.outbox.depth", waiting or 0)
        for name, table, states in _WAITING:
            counted = sa.select(table.c.state, sa.func.count()).where(table.c.state.in_(states)).group_by(table.c.state)
            found = {row[0]: row[1] for row in connection.execute(counted)}
            for state in states:
                ports.telemetry.measure(name, found.get(state, 0), state=state)


def send_again(ports: Ports, event: events.Event) -> None:
    """Take a dead letter of a broker: it is sent again later, until its taker has it or refuses it for good."""
    if event.refused in events.FOR_GOOD:
        _log.warning("sweep: %s of %s was refused for good (%d)", event.type, event.subject, event.refused)
        return
    with ports.catalogue.transaction() as connection:
        outbox.put_back(connection, event, due=ports.clock.now() + _DEAD_SECONDS)


def _deliver(ports: Ports) -> None:
    while outbox.deliver(ports):
        pass


def _acknowledge_frozen(ports: Ports) -> None:
    _each(
        ports,
        _rows(ports, sa.select(assets).where(assets.c.state == State.REGISTERING)),
        lambda row: acknowledge(ports, row),
    )


def _finish_jobs(ports: Ports) -> None:
    accepted = sa.select(jobs.c.id).where(jobs.c.completion.is_not(None), jobs.c.state.not_in(("done", "failed")))
    _each(ports, _rows(ports, accepted), lambda row: finish(ports, row.id))


def _start_waiting(ports: Ports) -> None:
    _each(ports, _rows(ports, sa.select(jobs.c.id).where(jobs.c.state == "waiting")), lambda row: start(ports, row.id))


def _recover_jobs(ports: Ports) -> None:
    """A job that its runner does not know any more gets another attempt, which fences the one before."""
    now = ports.clock.now()
    started = sa.select(jobs).where(
        jobs.c.state.in_(("queued", "running", "publishing")),
        jobs.c.completion.is_(None),
        jobs.c.heard < now - _SETTLED,
    )

    def recover(row: sa.Row[tuple[object, ...]]) -> None:
        state = ports.runner().state(row.id)
        if state is not None and state.state is RunState.QUEUED and row.deadline > now:
            return
        if state is not None and state.state is RunState.RUNNING and (row.heard > now - _SILENT or row.deadline > now):
            return
        if state is not None and state.state is RunState.GONE and row.heard > now - _SILENT:
            return  # it may be telling us right now
        if row.attempt >= ATTEMPTS:
            said = f" ({state.detail})" if state is not None and state.detail else ""
            fail(ports, row.id, f"the runner lost this job {row.attempt} times{said}: see polyshare doctor")
        else:
            start(ports, row.id, lost=row.attempt)

    _each(ports, _rows(ports, started), recover)


def _anchor_pending(ports: Ports) -> None:
    """One event wakes anchor for all that is pending."""
    now = ports.clock.now()
    with ports.catalogue.transaction() as connection:
        old = connection.execute(
            sa.select(writes.c.asset)
            .where(writes.c.state.in_(("pending", "sent")), writes.c.created < now - _SETTLED)
            .limit(1)
        ).first()
        # Read to its end: on SQLite a result left open would pin what this connection sees, whoever has it next.
        waking = connection.execute(
            sa.select(tables.outbox.c.row).where(tables.outbox.c.type == events.ASSET_REGISTERED).limit(1)
        ).first()
        if old is not None and waking is None:
            outbox.append(connection, events.ASSET_REGISTERED, subject=old.asset, ports=ports)
    _deliver(ports)


def _look_in_inbox(ports: Ports) -> None:
    drops.look(ports)


def _report_drops(ports: Ports) -> None:
    """Told again until it is told: at the end of an ingest, until then never."""
    ended = (
        sa.select(inbox_drops.c.asset)
        .join(assets, assets.c.id == inbox_drops.c.asset)
        .where(assets.c.state.in_((State.REGISTERED, State.FAILED)), inbox_drops.c.problem.is_(None))
    )

    def tell(row: sa.Row[tuple[object, ...]]) -> None:
        drops.report(ports, str(row.asset))
        with ports.catalogue.transaction() as connection:
            connection.execute(inbox_drops.update().where(inbox_drops.c.asset == row.asset).values(problem=""))

    _each(ports, _rows(ports, ended), tell)


def _finish_erasures(ports: Ports) -> None:
    due = assets.c.erase_again <= ports.clock.now()
    left = sa.select(assets.c.id).where(assets.c.erased.is_not(None), due)  # the first is what the index is of
    _each(ports, _rows(ports, left), lambda row: finish_erasing(ports, str(row.id)))


def _drop_expired_uploads(ports: Ports) -> None:
    now = ports.clock.now()
    expired = sa.select(uploads).where(~uploads.c.closed, uploads.c.expires < now)

    def expire(row: sa.Row[tuple[object, ...]]) -> None:
        with ports.catalogue.transaction() as connection:
            asset = lock_asset(connection, str(row.id))
            if asset is None or asset.state != State.UPLOADING:
                return
            connection.execute(uploads.update().where(uploads.c.id == row.id).values(closed=True))
            connection.execute(jobs.update().where(jobs.c.asset == row.id).values(state="failed"))
            connection.execute(
                assets.update()
                .where(assets.c.id == row.id)
                .values(state=State.FAILED, reason="its upload was not finished in time: register it again")
            )
        drop(ports, str(row.organisation), str(row.id))

    _each(ports, _rows(ports, expired), expire)


def _forget(ports: Ports) -> None:
    before = ports.clock.now() - _REMEMBERED
    with ports.catalogue.transaction() as connection:
        connection.execute(inbox.delete().where(inbox.c.at < before))
        connection.execute(idempotency.delete().where(idempotency.c.at < before))


def _rows(ports: Ports, query: sa.Select[tuple[object, ...]]) -> list[sa.Row[tuple[object, ...]]]:
    with ports.catalogue.reading() as connection:
        return list(connection.execute(query.limit(1000)))


def _each(
    ports: Ports, rows: Iterable[sa.Row[tuple[object, ...]]], work: Callable[[sa.Row[tuple[object, ...]]], object]
) -> None:
    for row in rows:
        try:
            work(row)
        except PolyshareError as error:
            _log.warning("sweep: %s", error.message)
