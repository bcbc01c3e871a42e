"""Events on their way out (outbox) and those that came in (inbox), each written with the change that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from polyshare.catalogue.locks import lock
from polyshare.catalogue.tables import inbox, outbox
from polyshare.events import Event

if TYPE_CHECKING:
    from polyshare.bootstrap import Ports


# Made once: SQLAlchemy takes as long to make a statement as to run it.
_IS_DUE = sa.select(outbox.c.row).where(outbox.c.due <= sa.bindparam("now")).limit(1)
_DUE = (
    sa.select(outbox)
    .where(outbox.c.due <= sa.bindparam("now"))
    .order_by(outbox.c.due, outbox.c.row)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
_UNDER_WAY = (
    outbox.update()
    .where(outbox.c.row == sa.bindparam("which"))
    .values(due=sa.bindparam("again"), attempts=outbox.c.attempts + 1)
)
_TAKEN = outbox.delete().where(sa.tuple_(outbox.c.id, outbox.c.attempts).in_(sa.bindparam("taken", expanding=True)))


def append(
    connection: sa.Connection,
    type: str,
    *,
    subject: str,
    data: Mapping[str, Any] | None = None,
    trace: str | None = None,
    ports: Ports,
) -> None:
    """Add an event that is sent after the transaction commits (see `deliver`); of the present trace, if of no other."""
    now = ports.clock.now()
    values = {"id": ports.new_id(), "type": type, "subject": subject, "data": dict(data or {}), "at": now, "due": now}
    connection.execute(outbox.insert(), values | ({"traceparent": trace} if trace else {}))


def put_back(connection: sa.Connection, event: Event, *, due: float) -> None:
    """Have an event that was sent sent again, as it was; told twice, once."""
    lock(connection, f"event {event.source} {event.id}")
    again = outbox.update().where(outbox.c.id == event.id).values(due=due, attempts=outbox.c.attempts + 1)
    if connection.execute(again).rowcount == 0:
        values = {"id": event.id, "type": event.type, "subject": event.subject, "data": dict(event.data)}
        values |= {"traceparent": event.traceparent} if event.traceparent else {}
        connection.execute(outbox.insert().values(**values, at=event.time or due, due=due))


def deliver(ports: Ports, *, limit: int = 100) -> int:
    """Send what is due, longest due first; what nobody took is due again later. Returns how many were taken.

    Several may send at once: each takes other rows, and passes over those that another is taking.
    """
    now = ports.clock.now()
    with ports.catalogue.reading() as connection:  # mostly there is nothing, for which no lock is needed
        if connection.execute(_IS_DUE, {"now": now}).first() is None:
            return 0
    with ports.catalogue.transaction(flushed=False) as connection:
        rows = connection.execute(_DUE, {"now": now, "most": limit}).all()
        if not rows:
            return 0
        # Not due again while it is being sent; if this process dies, it is.
        connection.execute(
            _UNDER_WAY,
            [{"which": row.row, "again": now + min(2.0**row.attempts, 60.0) + 5.0} for row in rows],
        )
    sent = [
        Event(row.type, row.id, row.subject, row.data, time=row.at, traceparent=row.traceparent or "") for row in rows
    ]
    # By id: numbers of rows are used again, and a slow sender must not delete another event under an old number. And
    # only as it was sent: a broker that gave it up in the meantime had it put back.
    taken = [(row.id, row.attempts + 1) for row, ok in zip(rows, ports.bus.publish(sent), strict=True) if ok]
    if taken:
        with ports.catalogue.transaction(flushed=False) as connection:
            connection.execute(_TAKEN, {"taken": taken})
    return len(taken)


def first_time(connection: sa.Connection, event: Event, now: float) -> bool:
    """Note that an event came in; False if it came before. In the transaction of what it causes."""
    lock(connection, f"event {event.source} {event.id}")
    seen = connection.execute(
        sa.select(inbox.c.id).where(inbox.c.source == event.source, inbox.c.id == event.id)
    ).first()
    if seen is None:
        connection.execute(inbox.insert().values(source=event.source, id=event.id, at=now))
    return seen is None
