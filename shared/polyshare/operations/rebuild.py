"""Rebuild: an empty catalogue from the journal and the ledger.

Lost are only sessions and delivery marks; uploads under way begin again. What is not on the ledger is
queued for it again (the registry takes the same record twice for once), and jobs without a result run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from polyshare import events
from polyshare.assets import Kind, State
from polyshare.bootstrap import Ports
from polyshare.catalogue import outbox
from polyshare.catalogue.tables import assets, files, grants, idempotency, inbox_drops, jobs, parents, stages
from polyshare.errors import Conflict
from polyshare.ledger.record import COMPLETED, FAILED, result_digest
from polyshare.manifest import commitment
from polyshare.metadata import Metadata
from polyshare.operations import conformance, journal
from polyshare.operations.documents import STAYING
from polyshare.operations.govern import queue_revocation
from polyshare.operations.models import was_translated
from polyshare.operations.register import queue_registration
from polyshare.operations.results import ledger_result, queue_result
from polyshare.ports import AssetState, Bucket


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found."""

    assets: int
    anchored: int
    requeued: int  # for the ledger
    rerun: int  # jobs


def rebuild(ports: Ports) -> Rebuilt:
    """Fill an empty catalogue. Raises Conflict if it is not empty."""
    with ports.catalogue.reading() as connection:
        if connection.scalar(sa.select(sa.func.count()).select_from(assets)):
            raise Conflict("the catalogue is not empty: rebuild fills an empty one; move the old database away first")
    count = anchored = requeued = rerun = 0
    for registration, changes in journal.replay(ports):
        if registration.get("erased") and changes:  # the database was lost while it was being erased
            journal.bury(ports, registration["id"], registration)
            changes = []
        state = ports.ledger().asset(bytes.fromhex(registration["address"][2:]))
        if not changes and not state.code and _is_half_stored(ports, registration):
            continue
        with ports.catalogue.transaction() as connection:
            _restore(connection, registration, changes, state, ports.clock.now())
            row = connection.execute(sa.select(assets).where(assets.c.id == registration["id"])).one()
            again = _requeue(connection, ports, row)
            rerun += _rerun(connection, ports, row, registration)
            outbox.append(connection, events.ASSET_REGISTERED, subject=row.id, ports=ports)
        count += 1
        anchored += row.anchored is not None
        requeued += again
    _translate_again(ports)
    return Rebuilt(count, anchored, requeued, rerun)


def _is_half_stored(ports: Ports, registration: Mapping[str, Any]) -> bool:
    """Whether bytes that came along never got into the store: then it was not acknowledged, and never will be.

    Of one that is not on the ledger, and was never changed: the bytes of an erased one may be gone.
    """
    return any(ports.store().head(Bucket.BLOBS, key) is None for key in registration.get("brought", ()))


def _translate_again(ports: Ports) -> None:
    """A trained model whose event was lost with the database is still to be translated."""
    with ports.catalogue.transaction() as connection:
        trained = connection.execute(
            sa.select(assets).where(assets.c.kind == Kind.MODEL, assets.c.result_anchored.is_not(None))
        ).all()
        for row in trained:
            if row.erased is None and not was_translated(connection, row.id):
                outbox.append(connection, events.RESULT_ANCHORED, subject=row.id, ports=ports)


def _restore(
    connection: sa.Connection,
    registration: Mapping[str, Any],
    changes: list[dict[str, Any]],
    state: AssetState,
    now: float,
) -> None:
    asset = registration["id"]
    erased = registration.get("erased")
    is_job = registration["kind"] in (Kind.MODEL, Kind.TRANSLATION)
    values: dict[str, Any] = {name: registration[name] for name in STAYING}
    values |= {
        "state": State.QUEUED if is_job and not erased else State.REGISTERED,
        "fields": {},
        "record": bytes.fromhex(registration["record"]),
        "address": registration["address"],
        "anchored": now if state.code else None,
        "revocation_anchored": now if any(state.revocation) else None,
        "journalled": len(changes),
        "erased": erased,
        "erase_again": erased,
    }
    if erased:
        values |= {"revoked": registration["revoked"], "revocation_reason": registration["revocation_reason"]}
        values["outcome"] = registration["outcome"]
        if is_job:
            values["request"] = {"erased": True}
            values["state"] = State.FAILED if values["outcome"] == FAILED else _end(registration["kind"])
    else:
        values |= {
            "salt": bytes.fromhex(registration["salt"]),
            "content_root": bytes.fromhex(registration["content_root"]),
            "metadata": registration["metadata"],
            "request": registration["request"],
        }
    connection.execute(assets.insert().values(**values))
    for position, link in enumerate(registration["parents"]):
        connection.execute(parents.insert().values(asset=asset, position=position, **link))
    _restore_files(connection, asset, registration["files"])
    for asked in registration.get("asked", ()):
        connection.execute(
            idempotency.insert().values(**{**asked, "request": bytes.fromhex(asked["request"]), "asset": asset})
        )
    if registration.get("drop"):
        connection.execute(inbox_drops.insert().values(asset=asset, problem="", **registration["drop"]))
    connection.execute(stages.insert().values(asset=asset, stage="rebuilt", at=now))
    result = None if erased else _choose_result(changes, state)
    if result is not None:
        _restore_result(connection, registration, result, state, now)
    for change in changes:
        _replay(connection, asset, change)


def _restore_files(connection: sa.Connection, asset: str, held: list[dict[str, Any]]) -> None:
    positions: dict[str, int] = {}
    for item in held:
        position = positions.setdefault(item["part"], 0)
        positions[item["part"]] += 1
        connection.execute(files.insert().values(asset=asset, position=position, **item))


def _choose_result(changes: list[dict[str, Any]], state: AssetState) -> dict[str, Any] | None:
    """The result that the ledger has; if it has none, the last that was journalled."""
    results = [change for change in changes if change["change"] == "result"]
    for result in results:
        if any(state.result) and state.result == _digest(result):
            return result
    return results[-1] if results else None


def _digest(result: Mapping[str, Any]) -> bytes:
    return result_digest(
        result["outcome"],
        commitment(bytes.fromhex(result["salt"]), bytes.fromhex(result["content_root"])),
        Metadata.from_json(result["metadata"]).root,
        bytes.fromhex(result["provenance"]),
    )


def _restore_result(
    connection: sa.Connection,
    registration: Mapping[str, Any],
    result: Mapping[str, Any],
    state: AssetState,
    now: float,
) -> None:
    connection.execute(
        assets.update()
        .where(assets.c.id == registration["id"])
        .values(
            state=_end(registration["kind"]) if result["outcome"] == COMPLETED else State.FAILED,
            outcome=result["outcome"],
            reason=result["reason"],
            result_salt=bytes.fromhex(result["salt"]),
            result_root=bytes.fromhex(result["content_root"]),
            result_metadata=result["metadata"],
            run=result["run"],
            provenance=bytes.fromhex(result["provenance"]),
            result_anchored=now if any(state.result) else None,
        )
    )
    _restore_files(connection, registration["id"], result["files"])


def _end(kind: int) -> State:
    return State.TRAINED if kind == Kind.MODEL else State.TRANSLATED


def _replay(connection: sa.Connection, asset: str, change: Mapping[str, Any]) -> None:
    mine = assets.update().where(assets.c.id == asset)
    match change["change"]:
        case "share":
            key = (grants.c.asset == asset) & (grants.c.organisation == change["organisation"])
            connection.execute(grants.delete().where(key))
            given = {name: change[name] for name in ("organisation", "by", "at", "expires")}
            connection.execute(grants.insert().values(asset=asset, **given))
        case "unshare":
            key = (grants.c.asset == asset) & (grants.c.organisation == change["organisation"])
            connection.execute(grants.delete().where(key))
        case "visibility":
            connection.execute(mine.values(visibility=change["visibility"]))
        case "conform":
            conformance.restore(connection, asset, change)
        case "revoke":
            connection.execute(mine.values(revoked=float(change["time"]), revocation_reason=change["reason"]))
        case "erase":  # its bytes may be gone already: sweep takes it to the end
            connection.execute(
                mine.values(
                    erased=change["time"],
                    erase_again=change["time"],
                    metadata=None,
                    salt=None,
                    content_root=None,
                    result_salt=None,
                )
            )
            conformance.forget(connection, asset)
            connection.execute(mine.values(result_root=None, result_metadata=None, run=None, reason=None))
            connection.execute(mine.where(assets.c.request.is_not(None)).values(request={"erased": True}))


def _requeue(connection: sa.Connection, ports: Ports, row: sa.Row[Any]) -> int:
    queued = 0
    if row.anchored is None:
        queue_registration(connection, ports, row)
        queued += 1
    if row.outcome is not None and row.result_anchored is None and row.erased is None:
        ledger_result(row)
        queue_result(connection, ports, row)
        queued += 1
    if row.revoked is not None and row.revocation_anchored is None:
        queue_revocation(connection, ports, row.id, row.revocation_reason, int(row.revoked))
        queued += 1
    return queued


def _rerun(connection: sa.Connection, ports: Ports, row: sa.Row[Any], registration: Mapping[str, Any]) -> int:
    if row.request is None or row.erased is not None:
        return 0
    unfinished = row.outcome is None
    state = "waiting" if unfinished else ("failed" if row.outcome == FAILED else "done")
    connection.execute(
        jobs.insert().values(
            id=ports.new_id(),
            asset=row.id,
            action=registration["job"],
            state=state,
            attempt=0,
            created=ports.clock.now(),
            completion=None if unfinished else row.provenance,
        )
    )
    if unfinished:
        outbox.append(connection, events.JOB_READY, subject=row.id, ports=ports)
    return int(unfinished)
