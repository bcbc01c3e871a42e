"""Governing: who may read an asset, revoking it, erasing it. Each is in the audit log and in the journal."""

from __future__ import annotations

import re

import sqlalchemy as sa

from polyshare import events
from polyshare.api import Audited, AuditLog, Erase, Grant, Grants, Revoke, SetVisibility, Share, Unshare
from polyshare.assets import Caller, Kind, Role, State, check_name
from polyshare.bootstrap import Ports
from polyshare.catalogue import outbox
from polyshare.catalogue.locks import lock_asset
from polyshare.catalogue.tables import assets, audit, files, grants, jobs, stages, writes
from polyshare.errors import Conflict, Erased, Invalid
from polyshare.ledger.record import revocation_digest
from polyshare.operations import conformance, journal
from polyshare.operations.access import UNACKNOWLEDGED, Asset, find_to_govern, note, organisation_of
from polyshare.operations.documents import erased_document
from polyshare.operations.jobs import uploads_of
from polyshare.operations.uploads import below, parts_key, prefix
from polyshare.ports import Bucket

_PAGE = 100


def share(ports: Ports, caller: Caller, reference: str, body: Share) -> Grants:
    """Let an organisation read an asset, until it expires or is taken back."""
    check_name(body.organisation, "organisation")
    now = ports.clock.now()
    if body.expires is not None and body.expires <= now:
        raise Invalid("a grant expires in the future")
    with ports.catalogue.transaction() as connection:
        asset = _governed(connection, caller, reference, now)
        key = (grants.c.asset == asset.id) & (grants.c.organisation == body.organisation)
        connection.execute(grants.delete().where(key))
        values = {"organisation": body.organisation, "by": caller.subject, "at": now, "expires": body.expires}
        connection.execute(grants.insert().values(asset=asset.id, **values))
        note(connection, caller, "share", asset, now, detail={"with": body.organisation, "expires": body.expires})
        journal.append(connection, ports, asset.id, "share", values)
        return _grants(connection, asset)


def unshare(ports: Ports, caller: Caller, reference: str, body: Unshare) -> Grants:
    """Take a grant back; bytes that were fetched under it are out."""
    now = ports.clock.now()
    with ports.catalogue.transaction() as connection:
        asset = _governed(connection, caller, reference, now)
        key = (grants.c.asset == asset.id) & (grants.c.organisation == body.organisation)
        if not connection.execute(grants.delete().where(key)).rowcount:
            raise Conflict(f"{reference} is not shared with {body.organisation[:64]}")
        note(connection, caller, "unshare", asset, now, detail={"with": body.organisation})
        journal.append(connection, ports, asset.id, "unshare", {"organisation": body.organisation})
        return _grants(connection, asset)


def set_visibility(ports: Ports, caller: Caller, reference: str, body: SetVisibility) -> Grants:
    now = ports.clock.now()
    with ports.catalogue.transaction() as connection:
        asset = _governed(connection, caller, reference, now)
        connection.execute(assets.update().where(assets.c.id == asset.id).values(visibility=body.visibility))
        note(connection, caller, "visibility", asset, now, detail={"visibility": body.visibility})
        journal.append(connection, ports, asset.id, "visibility", {"visibility": body.visibility})
        asset = connection.execute(sa.select(assets).where(assets.c.id == asset.id)).one()
        return _grants(connection, asset)


def list_grants(ports: Ports, caller: Caller, reference: str) -> Grants:
    with ports.catalogue.reading() as connection:
        return _grants(connection, find_to_govern(connection, caller, reference, ports.clock.now()))


def revoke(ports: Ports, caller: Caller, reference: str, body: Revoke) -> str:
    """Say on the ledger, for good, that an asset should not be used, and why. Returns its id.

    Raises Conflict if it was revoked for another reason; for the same it is done already.
    """
    now = ports.clock.now()
    with ports.catalogue.transaction() as connection:
        asset = _governed(connection, caller, reference, now)
        if asset.revoked is not None:
            if asset.revocation_reason == body.reason:
                return str(asset.id)
            raise Conflict(f"{reference} was revoked already: {asset.revocation_reason}")
        at = int(now)
        connection.execute(
            assets.update().where(assets.c.id == asset.id).values(revoked=float(at), revocation_reason=body.reason)
        )
        note(connection, caller, "revoke", asset, now, detail={"reason": body.reason})
        connection.execute(stages.insert().values(asset=asset.id, stage="revoked", at=now, detail=body.reason))
        queue_revocation(connection, ports, asset.id, body.reason, at)
        journal.append(connection, ports, asset.id, "revoke", {"reason": body.reason, "time": at})
        outbox.append(connection, events.ASSET_REVOKED, subject=asset.id, ports=ports)
        return str(asset.id)


def queue_revocation(connection: sa.Connection, ports: Ports, asset: str, reason: str, at: int) -> None:
    """Ask anchor to write a revocation, after the asset itself."""
    connection.execute(
        writes.insert().values(
            asset=asset,
            action="revoke",
            entry={"id": asset.replace("-", ""), "digest": revocation_digest(reason, at).hex()},
            after=[asset],
            state="pending",
            created=ports.clock.now(),
        )
    )


def erase(ports: Ports, caller: Caller, reference: str, body: Erase) -> str:
    """Delete an asset's metadata, salts and bytes for good; its record, which then tells nothing, stays on the ledger.

    Blobs that another asset refers to stay. Raises Conflict while its job runs.
    """
    now = ports.clock.now()
    with ports.catalogue.transaction() as connection:
        asset = _locked(connection, caller, reference, now)
        if body.confirm != asset.id:
            raise Invalid(f"erasing can't be undone: give the asset's UUID, {asset.id}, as confirm")
        if asset.erased is None:
            busy = connection.scalar(sa.select(jobs.c.state).where(jobs.c.asset == asset.id))
            if asset.state in UNACKNOWLEDGED or busy not in (None, "done", "failed"):
                raise Conflict(f"{reference} is {asset.state}: erase it when that is over")
            connection.execute(
                assets.update()
                .where(assets.c.id == asset.id)
                .values(
                    erased=now,
                    erase_again=now,
                    fields={},
                    metadata=None,
                    salt=None,
                    content_root=None,
                    result_salt=None,
                )
                .values(result_root=None, result_metadata=None, run=None, reason=None, request=_bare(asset))
            )
            connection.execute(jobs.update().where(jobs.c.asset == asset.id).values(log_tail=""))
            connection.execute(grants.delete().where(grants.c.asset == asset.id))
            conformance.forget(connection, asset.id)
            connection.execute(stages.insert().values(asset=asset.id, stage="erased", at=now))
            note(connection, caller, "erase", asset, now)
            journal.append(connection, ports, asset.id, "erase", {"time": now})
    finish_erasing(ports, asset.id)
    return str(asset.id)


def finish_erasing(ports: Ports, asset: str) -> None:
    """Delete what an erased asset left in the store. `sweep` repeats it after a crash, and when nothing that was under
    way then can write any more: a request that hung, a signed URL."""
    with ports.catalogue.reading() as connection:
        row = connection.execute(sa.select(assets).where(assets.c.id == asset)).one()
        mine = sa.select(files.c.key).where(files.c.asset == asset)
        keys = set(connection.scalars(mine))
        tried = connection.execute(sa.select(jobs).where(jobs.c.asset == asset)).all()
        own = [prefix(row.organisation, upload) for upload in (asset, *(u for job in tried for u in uploads_of(job)))]
        others = sa.select(files.c.key).join(assets, assets.c.id == files.c.asset).where(assets.c.erased.is_(None))
        used = set(connection.scalars(others.where(files.c.key.in_(mine))))
        used.update(*(connection.scalars(others.where(*below(one))) for one in own))
        document = erased_document(connection, row)
    keys |= {item.key.removesuffix(".parts") for one in own for item in ports.store().list(Bucket.BLOBS, one)}
    ports.store().delete(Bucket.BLOBS, [name for key in sorted(keys - used) for name in (key, parts_key(key))])
    journal.bury(ports, asset, document)
    settled = row.erased + ports.settings.hung_seconds + ports.settings.url_seconds
    again = settled if ports.clock.now() < settled else None
    with ports.catalogue.transaction() as connection:
        connection.execute(files.delete().where(files.c.asset == asset))
        connection.execute(assets.update().where(assets.c.id == asset).values(erase_again=again))


def audit_log(
    ports: Ports, caller: Caller, *, organisation: str | None, asset: str | None, cursor: str | None
) -> AuditLog:
    """What was done to an organisation's assets, newest first; for its admins, or one asset's for its owner."""
    query = sa.select(audit)
    with ports.catalogue.reading() as connection:
        if asset:
            query = query.where(audit.c.asset == find_to_govern(connection, caller, asset, ports.clock.now()).id)
        else:
            query = query.where(audit.c.organisation == organisation_of(caller, organisation, role=Role.ADMIN))
        if cursor:
            if not re.fullmatch(r"[0-9]{1,18}", cursor):
                raise Invalid("this cursor is not one that the audit log gave")
            query = query.where(audit.c.row < int(cursor))
        rows = connection.execute(query.order_by(audit.c.row.desc()).limit(_PAGE + 1)).all()
    entries = [Audited(r.at, r.organisation, r.subject, r.action, r.asset, r.detail) for r in rows[:_PAGE]]
    return AuditLog(entries, str(rows[_PAGE - 1].row) if len(rows) > _PAGE else None)


def _governed(connection: sa.Connection, caller: Caller, reference: str, now: float) -> Asset:
    asset = _locked(connection, caller, reference, now)
    if asset.erased is not None:
        raise Erased(f"{reference} was erased")
    if asset.state in UNACKNOWLEDGED or (asset.record is None and asset.state == State.FAILED):
        raise Conflict(f"{reference} is {asset.state}: it is not registered")
    return asset


def _locked(connection: sa.Connection, caller: Caller, reference: str, now: float) -> Asset:
    """What a reference names to whom may govern it; it stays as it is until this transaction ends."""
    asset = find_to_govern(connection, caller, reference, now)
    lock_asset(connection, asset.id)
    return find_to_govern(connection, caller, asset.id, now)


def _grants(connection: sa.Connection, asset: Asset) -> Grants:
    rows = connection.execute(sa.select(grants).where(grants.c.asset == asset.id).order_by(grants.c.organisation))
    return Grants(asset.visibility, [Grant(row.organisation, row.by, row.at, row.expires) for row in rows])


def _bare(asset: Asset) -> dict[str, object] | None:
    """What may stay of a job request: that there was one."""
    return {"erased": True} if asset.kind in (Kind.MODEL, Kind.TRANSLATION) else None
