"""Finding assets: listing and searching, and from what each was made. A relative that the caller may not read is
withheld: only its address and kind are told, which anybody can read on the ledger."""

from __future__ import annotations

import base64
import json

import sqlalchemy as sa

from polyshare.api import Lineage, Listed, Listing, Relative, RelativeResult
from polyshare.assets import Caller, Kind, State, check_name
from polyshare.bootstrap import Ports
from polyshare.catalogue.tables import assets, parents
from polyshare.errors import Invalid
from polyshare.metadata import Metadata
from polyshare.operations.access import UNACKNOWLEDGED, Asset, find, readable, ways_to_read

MOST = 100
_DEEPEST = 64
_MOST_RELATIVES = 1000


def listing(
    ports: Ports,
    caller: Caller,
    *,
    q: str = "",
    kind: str = "",
    organisation: str = "",
    name: str = "",
    cursor: str = "",
    limit: int = 50,
    content_root: bytes | None = None,
) -> Listing:
    """Assets that the caller may read, newest first, a page at a time. Raises Invalid."""
    now, most = ports.clock.now(), min(max(limit, 1), MOST)
    wanted: list[sa.ColumnElement[bool]] = [assets.c.state.not_in(UNACKNOWLEDGED)]
    if kind:
        if kind.upper() not in Kind.__members__:
            raise Invalid(f"there is no kind {kind[:50]!r}: take {', '.join(k.label for k in Kind)}")
        wanted.append(assets.c.kind == Kind[kind.upper()])
    if organisation:
        wanted.append(assets.c.organisation == check_name(organisation, "organisation"))
    if name:
        wanted.append(assets.c.name == check_name(name))
    if q:
        wanted.append(assets.c.name.contains(q[:100], autoescape=True))
    if content_root is not None:
        wanted.append(sa.or_(assets.c.content_root == content_root, assets.c.result_root == content_root))
    if cursor:
        wanted.append(sa.tuple_(assets.c.created, assets.c.id) < sa.tuple_(*_read_cursor(cursor)))
    newest = assets.c.created.desc(), assets.c.id.desc()
    ways = [
        sa.select(assets.c.id).where(way, *wanted).order_by(*newest).limit(most + 1).subquery()
        for way in ways_to_read(caller, now)
    ]
    ids = sa.union(*(sa.select(way.c.id) for way in ways))
    query = sa.select(assets).where(assets.c.id.in_(ids), readable(caller, now)).order_by(*newest).limit(most + 1)
    with ports.catalogue.reading() as connection:
        rows = connection.execute(query).all()
    page = rows[:most]
    return Listing([_listed(row) for row in page], _cursor(page[-1]) if len(rows) > most else None)


def lineage(ports: Ports, caller: Caller, reference: str) -> Lineage:
    """An asset, its ancestors nearest first, and its children. Raises NotFound."""
    now = ports.clock.now()
    with ports.catalogue.reading() as connection:
        asset = find(connection, caller, reference, now)
        shown = ancestry(connection, caller, asset, now)
        below = connection.execute(
            sa.select(assets)
            .join(parents, parents.c.asset == assets.c.id)
            .where(parents.c.parent == asset.id, readable(caller, now), assets.c.state.not_in(UNACKNOWLEDGED))
            .order_by(assets.c.created)
            .limit(_MOST_RELATIVES)
        ).all()
        children = [_relative(connection, child, withheld=False) for child in below]
    return Lineage(address=asset.address or "", assets=shown, children=children)


def ancestry(connection: sa.Connection, caller: Caller, asset: Asset, now: float) -> list[Relative]:
    """The asset and its ancestors, each once, nearest first. What a version supersedes is no ancestor."""
    seen, found, level = {asset.id}, [_relative(connection, asset, withheld=False)], [asset.id]
    for _ in range(_DEEPEST):
        rows = connection.execute(
            sa.select(assets, readable(caller, now).label("shown"))
            .join(parents, parents.c.parent == assets.c.id)
            .where(parents.c.asset.in_(level))
            .order_by(parents.c.asset, parents.c.position)
        ).all()
        level = []
        for row in rows:
            if row.id in seen or len(found) >= _MOST_RELATIVES:
                continue
            seen.add(row.id)
            found.append(_relative(connection, row, withheld=not row.shown))
            if row.shown:
                level.append(row.id)
        if not level:
            break
    return found


def _relative(connection: sa.Connection, row: Asset, *, withheld: bool) -> Relative:
    if withheld:
        return Relative(address=row.address, kind=Kind(row.kind).label, withheld=True)
    linked = connection.execute(
        sa.select(assets.c.address, parents.c.role)
        .join(parents, parents.c.parent == assets.c.id)
        .where(parents.c.asset == row.id)
        .order_by(parents.c.position)
    ).all()
    return Relative(
        address=row.address or "",
        kind=Kind(row.kind).label,
        id=row.id,
        organisation=row.organisation,
        name=row.name,
        version=row.version,
        state=row.state,
        revoked=row.revoked is not None,
        record=row.record.hex() if row.record else None,
        salt=row.salt.hex() if row.salt else None,
        content_root=row.content_root.hex() if row.content_root else None,
        result=_result(row),
        parents=[link.address for link in linked],
        roles=[link.role for link in linked],
    )


def _result(row: Asset) -> RelativeResult | None:
    if row.outcome is None or row.result_salt is None:
        return None
    return RelativeResult(
        outcome=row.outcome,
        salt=row.result_salt.hex(),
        content_root=row.result_root.hex(),
        metadata_root=Metadata.from_json(row.result_metadata).root.hex(),
        provenance=row.provenance.hex(),
    )


def _listed(row: Asset) -> Listed:
    return Listed(
        id=row.id,
        kind=Kind(row.kind).label,
        organisation=row.organisation,
        name=row.name,
        version=row.version,
        state=State(row.state),
        visibility=row.visibility,
        created=row.created,
        address=row.address,
        revoked=row.revoked is not None,
        erased=row.erased is not None,
    )


def _cursor(row: Asset) -> str:
    return base64.urlsafe_b64encode(json.dumps([row.created, row.id]).encode()).decode()


def _read_cursor(text: str) -> tuple[float, str]:
    try:
        created, last = json.loads(base64.urlsafe_b64decode(text))
        return float(created), str(last)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Invalid("this cursor is not one that a listing gave") from error
