"""Reservations: an asset's id is given out before anybody knows its files, its job, or both.

Until it is taken up nothing is registered: a reservation is not in the journal, is lost with the database, and lapses.
Who reserved it, or for a dataset the bucket trigger, takes it up by registering under its id.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from polyshare.assets import Caller, Kind, State, Visibility
from polyshare.bootstrap import Ports
from polyshare.catalogue.locks import lock, lock_asset
from polyshare.catalogue.tables import assets, stages, uploads
from polyshare.errors import Conflict
from polyshare.metadata import check_fields
from polyshare.operations.access import Asset, organisation_of

SECONDS = 30 * 86_400.0  # that an id stays reserved
_SCHEMA = "polyshare/reserved/1"


def reserve(
    ports: Ports, caller: Caller, kind: Kind, organisation: str, asked: Mapping[str, Any], fields: Mapping[str, Any]
) -> str:
    """Give out an id for an asset of this kind. `asked` is for who takes it up. Raises Invalid or Forbidden."""
    organisation_of(caller, organisation)
    check_fields(fields)
    asset, now = ports.new_id(), ports.clock.now()
    with ports.catalogue.transaction() as connection:
        connection.execute(
            assets.insert().values(
                id=asset,
                kind=kind,
                organisation=organisation,
                owner=caller.subject,
                visibility=Visibility.ORGANISATION,
                state=State.UPLOADING,
                created=now,
                fields=dict(fields),
                request={"schema": _SCHEMA, "asked": dict(asked)},
            )
        )
        connection.execute(
            uploads.insert().values(id=asset, organisation=organisation, files=[], reused={}, expires=now + SECONDS)
        )
        connection.execute(stages.insert().values(asset=asset, stage="reserved", at=now))
    return asset


def is_reserved(asset: Asset) -> bool:
    """Whether the id is given out and nothing more."""
    return bool(asset.state == State.UPLOADING and (asset.request or {}).get("schema") == _SCHEMA)


def asked_of(asset: Asset) -> dict[str, Any]:
    """What was asked when the id was reserved."""
    return dict(asset.request["asked"])


def reserved_dataset(connection: sa.Connection, organisation: str, name: str) -> Asset | None:
    """The reserved dataset of an organisation that has this id, if `name` is one."""
    if not looks_like_an_id(name):
        return None
    row = connection.execute(sa.select(assets).where(assets.c.id == name)).first()
    fits = row is not None and row.organisation == organisation and row.kind == Kind.DATASET and is_reserved(row)
    return row if fits else None


def looks_like_an_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def take(connection: sa.Connection, asset: str) -> str:
    """Clear a reservation in the transaction that registers under its id, which is answered.

    Raises Conflict if it lapsed, or somebody took it up before.
    """
    lock(connection, f"reservation {asset}")
    row = lock_asset(connection, asset)
    if row is None or not is_reserved(row):
        raise Conflict(f"{asset} is not reserved any more: see its status")
    connection.execute(stages.delete().where(stages.c.asset == asset))
    connection.execute(uploads.delete().where(uploads.c.id == asset))
    connection.execute(assets.delete().where(assets.c.id == asset))
    return asset


def fail(connection: sa.Connection, ports: Ports, asset: str, reason: str) -> None:
    """End a reservation that was filled with something else than was announced."""
    lock(connection, f"reservation {asset}")
    row = lock_asset(connection, asset)
    if row is None or not is_reserved(row):
        return
    connection.execute(assets.update().where(assets.c.id == asset).values(state=State.FAILED, reason=reason))
    connection.execute(uploads.update().where(uploads.c.id == asset).values(closed=True))
    connection.execute(stages.insert().values(asset=asset, stage=State.FAILED, at=ports.clock.now(), detail=reason))
