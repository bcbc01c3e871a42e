"""Who may do what to which asset. Every operation finds assets through here.

An asset that the caller may not read and one that does not exist give the same NotFound, so that nobody learns which
it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from polyshare.assets import Caller, Reference, Role, State, Visibility, check_name
from polyshare.catalogue.tables import assets, audit, grants
from polyshare.errors import Forbidden, Invalid, NotFound

Asset = sa.Row[Any]
UNACKNOWLEDGED = (State.UPLOADING, State.REGISTERING)


def readable(caller: Caller, now: float) -> sa.ColumnElement[bool]:
    """The condition that the caller may read an asset."""
    return _readable(caller.subject, list(caller.organisations), now)


def _readable(subject: Any, member: Any, now: Any) -> sa.ColumnElement[bool]:
    """Values, or parameters that stand for them."""
    granted = (
        sa.exists()
        .where(grants.c.asset == assets.c.id, grants.c.organisation.in_(member))
        .where(sa.or_(grants.c.expires.is_(None), grants.c.expires > now))
    )
    mine = sa.and_(assets.c.owner == subject, assets.c.organisation.in_(member))
    of_organisation = sa.and_(assets.c.visibility == Visibility.ORGANISATION, assets.c.organisation.in_(member))
    acknowledged = assets.c.state.not_in(UNACKNOWLEDGED)
    others = sa.or_(assets.c.visibility == Visibility.PUBLIC, of_organisation, granted)
    return sa.or_(mine, sa.and_(acknowledged, others))


def ways_to_read(caller: Caller, now: float) -> list[sa.ColumnElement[bool]]:
    """The condition of `readable` as several, each of which an index answers in order of time.

    An acknowledged asset that is readable meets at least one, so the newest of each hold the newest of all.
    """
    member = sorted(caller.organisations)
    shown = assets.c.visibility.in_((Visibility.PUBLIC, Visibility.ORGANISATION))
    granted = (
        sa.select(grants.c.asset)
        .where(grants.c.organisation.in_(member))
        .where(sa.or_(grants.c.expires.is_(None), grants.c.expires > now))
    )
    return [
        assets.c.visibility == Visibility.PUBLIC,
        *(sa.and_(assets.c.organisation == name, sa.or_(shown, assets.c.owner == caller.subject)) for name in member),
        *([assets.c.id.in_(granted)] if member else []),
    ]


# Made once: SQLAlchemy takes as long to make a statement as to run it, and most requests begin with one of these.
_BY_ID = sa.select(assets).where(assets.c.id == sa.bindparam("named_id"))
_BY_NAME = sa.select(assets).where(
    assets.c.organisation == sa.bindparam("named_organisation"), assets.c.name == sa.bindparam("named_name")
)
_BY_VERSION = _BY_NAME.where(assets.c.version == sa.bindparam("named_version"))
_NEWEST = _BY_NAME.where(assets.c.version.is_not(None)).order_by(assets.c.version.desc()).limit(1)
_BY_READER = _readable(
    sa.bindparam("reader"), sa.bindparam("reader_member", expanding=True), sa.bindparam("reader_now")
)
_FOR_READER = {named: named.where(_BY_READER) for named in (_BY_ID, _BY_VERSION, _NEWEST)}


def find(connection: sa.Connection, caller: Caller, reference: str, now: float) -> Asset:
    """The asset that a reference names and the caller may read; raises NotFound or Invalid."""
    named, values = _named(reference)
    values |= {"reader": caller.subject, "reader_member": list(caller.organisations), "reader_now": now}
    found = connection.execute(_FOR_READER[named], values).first()
    if found is None:
        raise NotFound(f"there is no asset {reference[:200]!r} that you may read")
    return found


def find_to_govern(connection: sa.Connection, caller: Caller, reference: str, now: float) -> Asset:
    """The asset that a reference names, for its owner or an admin of its organisation; raises NotFound or Forbidden."""
    found = connection.execute(*_named(reference)).first()
    if found is not None and caller.role(found.organisation) == Role.ADMIN:
        return found
    found = find(connection, caller, reference, now)
    if found.owner != caller.subject or (caller.role(found.organisation) or 0) < Role.PUBLISHER:
        raise Forbidden(f"only its registrant or an admin of {found.organisation} may do this to {reference}")
    return found


def organisation_of(caller: Caller, asked: str | None, *, role: Role = Role.PUBLISHER) -> str:
    """The organisation to act for; raises Invalid if it must be named, Forbidden without that role in it."""
    if asked is None:
        able = [name for name, held in caller.organisations.items() if held >= role]
        if len(able) != 1:
            raise Invalid(
                f"you are {role.name.lower()} in {len(able)} organisations: name one with organisation"
                if able
                else f"you are {role.name.lower()} in no organisation: ask an admin for the role"
            )
        asked = able[0]
    check_name(asked, "organisation")
    held = caller.role(asked)
    if held is None or held < role:
        raise Forbidden(f"this needs the role {role.name.lower()} in {asked}")
    return asked


def note(
    connection: sa.Connection,
    caller: Caller,
    action: str,
    asset: Asset | None,
    now: float,
    *,
    organisation: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write to the audit log of the asset's organisation."""
    connection.execute(
        audit.insert().values(
            at=now,
            organisation=organisation or (asset.organisation if asset is not None else ""),
            subject=caller.subject or "anonymous",
            action=action,
            asset=asset.id if asset is not None else None,
            detail=dict(detail) if detail else None,
        )
    )


def _named(text: str) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement that finds what a reference names, whoever may read it, and its parameters."""
    reference = Reference.parse(text)
    if reference.id is not None:
        return _BY_ID, {"named_id": reference.id}
    values = {"named_organisation": reference.organisation, "named_name": reference.name}
    if reference.version is not None:
        return _BY_VERSION, {**values, "named_version": reference.version}
    return _NEWEST, values
