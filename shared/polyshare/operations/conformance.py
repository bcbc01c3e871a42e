"""Records of conformance: on which hardware a translation was found to answer as its certificate says.

A record says that its subject, for its organisation, states a result. Checked are only who it is, that the files named
are those of the translation, and that the statement holds together. It is no proof: nobody else saw the run. Whoever
may read a translation may record for an organisation of theirs, as a reader too, since they add to what is known of it
and take nothing; whoever may read it sees all its records, with organisation and subject. They live in the journal, not
on the ledger, and go when the translation is erased.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec
import rfc8785
import sqlalchemy as sa

from polyshare.api import Conform, Conformance, Conformances, Statement
from polyshare.assets import Caller, Kind, Role, State
from polyshare.bootstrap import Ports
from polyshare.catalogue.locks import lock_asset
from polyshare.catalogue.tables import assets, conformances, files, parents
from polyshare.errors import Conflict, Erased, Invalid
from polyshare.operations import journal
from polyshare.operations.access import Asset, find, note, organisation_of, readable

_SCHEMA = b"polyshare/conformance/1\0"
_PAGE = 100
_MOST = 1000  # records of one organisation on one translation


def conform(ports: Ports, caller: Caller, reference: str, body: Conform) -> tuple[Conformance, bool]:
    """Record a statement on a translation, and whether it is new: the same again is answered with what there is.

    Raises Invalid for a statement on other files than the translation's, or one that contradicts itself.
    """
    organisation = organisation_of(caller, body.organisation, role=Role.READER)
    statement = {name: value for name, value in msgspec.to_builtins(body).items() if name != "organisation"}
    now = ports.clock.now()
    with ports.catalogue.transaction() as connection:
        asset = find(connection, caller, reference, now)
        lock_asset(connection, asset.id)
        asset = find(connection, caller, asset.id, now)
        _check(connection, asset, reference, body)
        id = sha256(_SCHEMA + rfc8785.dumps([asset.id, organisation, statement])).hexdigest()
        known = connection.execute(sa.select(conformances).where(conformances.c.id == id)).first()
        if known is not None:
            return _shown(known), False
        mine = (conformances.c.asset == asset.id) & (conformances.c.organisation == organisation)
        if (connection.scalar(sa.select(sa.func.count()).where(mine)) or 0) >= _MOST:
            raise Conflict(f"{organisation} has recorded {_MOST} statements on {reference}: there is room for no more")
        values = {"id": id, "organisation": organisation, "subject": caller.subject, "at": now, "statement": statement}
        connection.execute(conformances.insert().values(asset=asset.id, **values))
        detail = {"result": body.result, "provider": body.hardware.provider, "for": organisation}
        note(connection, caller, "conform", asset, now, detail=detail)
        journal.append(connection, ports, asset.id, "conform", values)
        return _shown(connection.execute(sa.select(conformances).where(conformances.c.id == id)).one()), True


def listing(ports: Ports, caller: Caller, reference: str, cursor: str = "") -> Conformances:
    """The records of a translation, or of all translations of a model that the caller may read, newest first."""
    if cursor and not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise Invalid("this cursor is not one that a listing of conformance gave")
    now = ports.clock.now()
    with ports.catalogue.reading() as connection:
        asset = find(connection, caller, reference, now)
        children = (
            sa.select(assets.c.id)
            .join(parents, parents.c.asset == assets.c.id)
            .where(parents.c.parent == asset.id, assets.c.kind == Kind.TRANSLATION, readable(caller, now))
        )
        of_it = sa.or_(conformances.c.asset == asset.id, conformances.c.asset.in_(children))
        query = sa.select(conformances).where(of_it).order_by(conformances.c.row.desc()).limit(_PAGE + 1)
        if cursor:
            query = query.where(conformances.c.row < int(cursor))
        rows = connection.execute(query).all()
    return Conformances([_shown(row) for row in rows[:_PAGE]], str(rows[_PAGE - 1].row) if len(rows) > _PAGE else None)


def restore(connection: sa.Connection, asset: str, change: Mapping[str, Any]) -> None:
    """Bring back a record from its journal entry; one that was written and not acknowledged may be there twice."""
    if connection.execute(sa.select(conformances.c.row).where(conformances.c.id == change["id"])).first() is None:
        kept = {name: change[name] for name in ("id", "organisation", "subject", "at", "statement")}
        connection.execute(conformances.insert().values(asset=asset, **kept))


def forget(connection: sa.Connection, asset: str) -> None:
    """Delete all records of an asset that is erased."""
    connection.execute(conformances.delete().where(conformances.c.asset == asset))


def _check(connection: sa.Connection, asset: Asset, reference: str, body: Conform) -> None:
    if asset.kind != Kind.TRANSLATION:
        raise Invalid(f"{reference} is a {Kind(asset.kind).label}: conformance is recorded of a translation")
    if asset.erased is not None:
        raise Erased(f"{reference} was erased")
    if asset.state != State.TRANSLATED:
        raise Conflict(f"{reference} is {asset.state}: conformance can be recorded when it is translated")
    held = connection.execute(sa.select(files).where(files.c.asset == asset.id, files.c.part == "result")).all()
    digests = {row.path: row.digest for row in held}
    for path, stated in (("model.onnx", body.onnx), ("certificate.json", body.certificate)):
        if digests.get(path) != stated:
            raise Invalid(f"the statement is on another {path} ({stated}) than that of {reference}")
    if any(output.rows_outside > output.rows for output in body.outputs):
        raise Invalid("the statement has more rows outside the tolerance than there are")
    if body.result == "MISMATCH" and not body.reasons:
        raise Invalid("a MISMATCH has at least one reason")


def _shown(row: sa.Row[Any]) -> Conformance:
    return Conformance(
        id=row.id,
        translation=row.asset,
        organisation=row.organisation,
        subject=row.subject,
        at=row.at,
        statement=msgspec.convert(row.statement, Statement),
    )
