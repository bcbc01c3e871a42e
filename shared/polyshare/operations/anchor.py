"""Anchoring: what the catalogue wants on the ledger, in batches, by one signer at a time.

The signer holds a lease whose fence each of its transactions on the catalogue checks, so one that was superseded while
it slept changes nothing. Signed bytes are stored, with the writes they carry, before they are sent; whoever holds the
lease next sends the same bytes again. So whichever step a process dies at, nothing is lost and no nonce is used twice.
And where even the catalogue is lost, the contracts pass over what they have.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from polyshare import events
from polyshare.bootstrap import Ports
from polyshare.catalogue import outbox
from polyshare.catalogue.lease import Lease, Superseded, acquire, is_held
from polyshare.catalogue.tables import assets, stages, transactions, writes
from polyshare.errors import Unavailable
from polyshare.ledger.gas import TRANSACTION, gas_of
from polyshare.ports import Receipt, Register, Result, Revocation, SignedTransaction
from polyshare.tracing import child_of, parse

_LEASE, _LEASE_SECONDS = "anchor", 10.0
_SLICE, _PATIENCE = 2.0, 20.0  # seconds: until the lease is renewed, and until the caller is told to come again
_PAGE = 500  # pending writes read at a time
_BLOCKS = 8  # filled before the first is waited for: a network takes a second or more for each
_log = logging.getLogger("polyshare")

Entry = Register | Result | Revocation
Write = sa.Row[Any]

# action → (its column of `assets`, its stage, its event)
_DONE: Mapping[str, tuple[str, str, str]] = {
    "register": ("anchored", "anchored", events.ASSET_ANCHORED),
    "result": ("result_anchored", "result anchored", events.RESULT_ANCHORED),
    "revoke": ("revocation_anchored", "revoked on ledger", events.REVOCATION_ANCHORED),
}


# Made once: SQLAlchemy takes as long to make a statement as to run it.
_SIGNED = sa.select(transactions).where(transactions.c.state == "signed").order_by(transactions.c.nonce)
_IS_SIGNED = sa.select(transactions.c.hash).where(transactions.c.state == "signed").limit(1)
_READY = (
    sa.select(writes)
    .where(writes.c.state == "pending", writes.c.transaction.is_(None), writes.c.row > sa.bindparam("after"))
    .order_by(writes.c.row)
    .limit(sa.bindparam("most"))
)
_FAILED = (
    sa.select(writes.c.transaction)
    .where(writes.c.state == "pending", writes.c.transaction.is_not(None))
    .order_by(writes.c.row)
    .limit(1)
)
_CARRIED = (
    sa.select(writes)
    .where(writes.c.transaction == sa.bindparam("hash"), writes.c.state == "sent")
    .order_by(writes.c.row)
)
_SENT = (
    writes.update()
    .where(writes.c.row == sa.bindparam("which"), writes.c.state == "pending")
    .values(state="sent", transaction=sa.bindparam("hash"))
)
_DONE_WITH = writes.update().where(writes.c.row == sa.bindparam("which")).values(state="done")


def anchor(ports: Ports) -> int:
    """Write all that is pending to the ledger; returns how many entries came to their end.

    0 at once if another process is at it: whoever is looks again after it let go. Raises Unavailable when the node does
    not answer or does not mine; the same call goes on from there.
    """
    ended = 0
    while not is_held(ports, _LEASE) and _has_work(ports):
        if ports.ending():
            raise Unavailable("this instance of anchor ends: another one goes on", retry_after=1)
        lease = acquire(ports, _LEASE, _LEASE_SECONDS)
        if lease is None:
            return ended
        try:
            with lease:
                ended += _Anchoring(ports, lease).run()
        except Superseded:
            return ended
    return ended


class _Anchoring:
    """What the holder of the lease does."""

    def __init__(self, ports: Ports, lease: Lease) -> None:
        self._ports, self._lease, self._ledger = ports, lease, ports.ledger()

    def run(self) -> int:
        ended = self._settle()
        while not self._ports.ending() and (batches := self._next_batches()):
            began = self._ports.clock.now()
            self._store(batches)
            ended += self._settle()
            self._ports.gather(began, sum(map(len, batches)))
        return ended

    def _settle(self) -> int:
        """Bring every signed transaction to its end: send it (again), read its receipt, note what it did."""
        with self._ports.catalogue.reading() as connection:
            signed = connection.execute(_SIGNED).all()
        for transaction in signed:
            self._ledger.send(transaction.raw)
        ended = 0
        for transaction in signed:
            receipt = self._wait(transaction)
            if receipt is None:
                self._give_back(transaction, "lost")
            elif receipt.succeeded:
                ended += self._finish(transaction, receipt)
            else:
                ended += self._revert(transaction)
        return ended

    def _wait(self, transaction: sa.Row[Any]) -> Receipt | None:
        """None if the transaction can't be mined any more: its nonce was used by another, or its receipt is gone."""
        waited = 0.0
        while True:
            # A nonce that is used, and then no receipt: in this order, or it could have been mined in between.
            used = self._ledger.next_nonce(transaction.sender) > transaction.nonce
            receipt = self._ledger.receipt(transaction.hash, wait=0 if used else _SLICE)
            if receipt is not None or used:
                return receipt
            waited += _SLICE
            if self._ports.ending():  # who takes the lease next sends the same bytes again
                raise Unavailable("this instance of anchor ends: another one goes on", retry_after=1)
            if waited >= _PATIENCE:
                raise Unavailable(
                    f"the ledger has not mined transaction 0x{transaction.hash.hex()} (nonce {transaction.nonce}) yet: "
                    "check that enough validators run",
                    retry_after=5,
                )
            self._lease.renew()

    def _finish(self, transaction: sa.Row[Any], receipt: Receipt) -> int:
        """In one transaction on the catalogue: the writes, the assets, their stages, and what follows from them.

        Where a machine that lost power forgot it, the transaction is still to be settled.
        """
        with self._lease.transaction(flushed=False) as connection:
            carried = _carried(connection, transaction.hash)
            for action, (column, stage, event) in _DONE.items():
                done = [
                    w for w in carried if w.action == action and bytes.fromhex(w.entry["id"]) not in receipt.rejected
                ]
                if not done:
                    continue
                connection.execute(_DONE_WITH, [{"which": write.row} for write in done])
                connection.execute(
                    assets.update().where(assets.c.id == sa.bindparam("a")).values({column: receipt.time}),
                    [{"a": write.asset} for write in done],
                )
                _add_stages(connection, self._ports, [(write.asset, stage, None) for write in done])
                ids = [write.asset for write in done]  # one event tells of all: takers have less to do
                outbox.append(
                    connection,
                    event,
                    subject=ids[0],
                    data={"assets": ids},
                    trace=done[0].traceparent,
                    ports=self._ports,
                )
            for write in carried:
                reason = receipt.rejected.get(bytes.fromhex(write.entry["id"]))
                if reason is not None:
                    self._reject(connection, write, reason)
            _mark(connection, transaction, "mined")
        self._ports.wake()
        self._tell(carried, transaction)
        return len(carried)

    def _tell(self, carried: Sequence[Write], transaction: sa.Row[Any]) -> None:
        """One batch serves many traces: each gets a span from when its record was wanted until it was final."""
        telemetry, now = self._ports.telemetry, self._ports.clock.now()
        telemetry.measure("polyshare.anchor.batch", len(carried))
        for write in carried:
            telemetry.measure("polyshare.anchor.latency", now - write.created, action=write.action)
            parent = parse(write.traceparent)
            if parent is not None:
                named = {"polyshare__asset": write.asset, "polyshare__transaction": f"0x{transaction.hash.hex()}"}
                telemetry.span(f"ledger {write.action}", child_of(parent), parent, write.created, now, **named)
        _log.info("anchored", extra={"fields": {"records": len(carried), "transaction": f"0x{transaction.hash.hex()}"}})

    def _revert(self, transaction: sa.Row[Any]) -> int:
        """Set the culprit aside if it was alone; else each half is tried by itself (see `_next_batches`)."""
        with self._lease.transaction() as connection:
            carried = _carried(connection, transaction.hash)
            if len(carried) == 1:
                self._reject(connection, carried[0], "the registry reverts on it")
                _mark(connection, transaction, "failed")
                return 1
        self._give_back(transaction, "failed")
        return 0

    def _give_back(self, transaction: sa.Row[Any], why: str) -> None:
        """What the transaction carried is pending again; where it failed, still marked with it."""
        with self._lease.transaction() as connection:
            values: dict[str, Any] = {"state": "pending"} | ({} if why == "failed" else {"transaction": None})
            connection.execute(
                writes.update().where(writes.c.transaction == transaction.hash, writes.c.state == "sent").values(values)
            )
            _mark(connection, transaction, "failed" if why == "failed" else "lost")

    def _reject(self, connection: sa.Connection, write: Write, reason: str) -> None:
        connection.execute(writes.update().where(writes.c.row == write.row).values(state="rejected", reason=reason))
        _add_stages(connection, self._ports, [(write.asset, "rejected by the ledger", reason)])

    def _next_batches(self) -> list[list[Write]]:
        """What goes into the next transactions: of a block's, which fit into it together, one for each action."""
        with self._ports.catalogue.reading() as connection:
            halves = _halves_of_a_failed_one(connection)
            if halves:
                return halves
            blocks: list[dict[str, list[Write]]] = []
            capacity = room = 0
            for write in _ready(connection):
                capacity = capacity or self._ledger.capacity()
                gas, first = gas_of(entry_of(write)) * 64 // 63, TRANSACTION * 64 // 63
                if not blocks or gas + first * (write.action not in blocks[-1]) > room:
                    if len(blocks) == _BLOCKS:
                        break
                    blocks.append({})
                    room = capacity
                room -= gas + first * (write.action not in blocks[-1])
                blocks[-1].setdefault(write.action, []).append(write)
        return [batch for batches in blocks for batch in batches.values()]

    def _store(self, batches: Sequence[Sequence[Write]]) -> None:
        """Sign, then store the signed bytes with what they carry, in one transaction on the catalogue."""
        nonce = self._next_nonce()
        signed: list[SignedTransaction] = [
            self._ledger.sign([entry_of(write) for write in batch], nonce + i)  # type: ignore[arg-type]
            for i, batch in enumerate(batches)
        ]
        with self._lease.transaction() as connection:
            connection.execute(
                transactions.insert(),
                [
                    {
                        "hash": transaction.hash,
                        "nonce": transaction.nonce,
                        "sender": transaction.sender,
                        "raw": transaction.raw,
                        "state": "signed",
                        "fence": self._lease.fence,
                        "created": self._ports.clock.now(),
                    }
                    for transaction in signed
                ],
            )
            connection.execute(
                _SENT,
                [
                    {"which": write.row, "hash": transaction.hash}
                    for transaction, batch in zip(signed, batches, strict=True)
                    for write in batch
                ],
            )

    def _next_nonce(self) -> int:
        """The chain's, when nothing is under way. Where the chain is behind the catalogue, what it forgot goes first.

        That is an embedded chain whose files were lost, or a node that lags. A nonce is never signed for twice. What
        another key signed, before this one took its place, has nonces of its own.
        """
        chain = self._ledger.next_nonce()
        sender = transactions.c.sender
        ours = sa.or_(sender == self._ledger.writer(), sender.is_(None))  # not noted before there was more than one
        with self._ports.catalogue.reading() as connection:
            forgotten = connection.execute(
                sa.select(transactions)
                .where(transactions.c.state.in_(("mined", "failed", "lost")), transactions.c.nonce >= chain, ours)
                .order_by(transactions.c.nonce, transactions.c.state == "lost")
            ).all()
        for transaction in forgotten:
            self._ledger.send(transaction.raw)
        for transaction in forgotten:
            self._wait(transaction)
        return max([chain, *(int(transaction.nonce) + 1 for transaction in forgotten)])


def entry_of(write: Write) -> Entry:
    """The entry of a row of `writes`, as the ledger port takes it."""
    entry = write.entry
    match write.action:
        case "register":
            return Register(bytes.fromhex(entry["id"]), entry["kind"], bytes.fromhex(entry["record"]))
        case "result":
            return Result(
                bytes.fromhex(entry["id"]),
                entry["outcome"],
                bytes.fromhex(entry["commitment"]),
                bytes.fromhex(entry["metadata_root"]),
                bytes.fromhex(entry["provenance"]),
            )
        case _:
            return Revocation(bytes.fromhex(entry["id"]), bytes.fromhex(entry["digest"]))


def _has_work(ports: Ports) -> bool:
    with ports.catalogue.reading() as connection:
        return bool(
            connection.execute(_IS_SIGNED).first()
            or _halves_of_a_failed_one(connection)
            or next(_ready(connection, page=1), None) is not None
        )


def _ready(connection: sa.Connection, page: int = _PAGE) -> Iterator[Write]:
    """Pending writes, oldest first, for which all that must be anchored before is. What waits is passed over.

    `page` are read at first.
    """
    last = 0
    while found := connection.execute(_READY, {"after": last, "most": page}).all():
        needed = {write.row: {*write.after, *([write.asset] if write.action != "register" else [])} for write in found}
        anchored = _anchored(connection, sorted(set().union(*needed.values())))
        yield from (write for write in found if needed[write.row] <= anchored)
        last, page = found[-1].row, _PAGE


def _anchored(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), 1000):  # databases limit the parameters of a statement
        some = ids[start : start + 1000]
        found.update(
            connection.scalars(sa.select(assets.c.id).where(assets.c.id.in_(some), assets.c.anchored.is_not(None)))
        )
    return found


def _halves_of_a_failed_one(connection: sa.Connection) -> list[list[Write]]:
    """What a transaction that reverted carried, cut in two."""
    failed = connection.scalar(_FAILED)
    if failed is None:
        return []
    of_it = writes.c.state == "pending", writes.c.transaction == failed
    rows = list(connection.execute(sa.select(writes).where(*of_it).order_by(writes.c.row)))
    half = (len(rows) + 1) // 2
    return [part for part in (rows[:half], rows[half:]) if part]


def _carried(connection: sa.Connection, transaction: bytes) -> list[Write]:
    return list(connection.execute(_CARRIED, {"hash": transaction}))


def _add_stages(connection: sa.Connection, ports: Ports, added: Sequence[tuple[str, str, str | None]]) -> None:
    now = ports.clock.now()
    connection.execute(
        stages.insert(),
        [{"asset": asset, "stage": stage, "at": now, "detail": detail} for asset, stage, detail in added],
    )


def _mark(connection: sa.Connection, transaction: sa.Row[Any], state: str) -> None:
    connection.execute(transactions.update().where(transactions.c.hash == transaction.hash).values(state=state))
