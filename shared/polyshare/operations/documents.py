"""What the journal keeps of an asset: documents from which its rows are rebuilt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from polyshare.assets import Kind
from polyshare.catalogue.tables import assets, files, idempotency, inbox_drops, jobs, parents
from polyshare.operations.access import Asset

_FILES = sa.select(files).where(files.c.asset == sa.bindparam("asset")).order_by(files.c.position)
_DROP = sa.select(inbox_drops).where(inbox_drops.c.asset == sa.bindparam("asset"))
_ASKED = sa.select(idempotency).where(idempotency.c.asset == sa.bindparam("asset"))
_JOB = sa.select(jobs.c.action).where(jobs.c.asset == sa.bindparam("asset"))
_LINKS = (
    sa.select(parents.c.parent, parents.c.role, assets.c.address)
    .join(assets, parents.c.parent == assets.c.id)
    .where(parents.c.asset == sa.bindparam("asset"))
    .order_by(parents.c.position)
)

# What a registration says of its asset, which stays when that is erased.
STAYING = ("id", "kind", "organisation", "owner", "name", "version", "supersedes", "visibility", "created")


def registration_document(
    row: Asset,
    *,
    held: Iterable[Mapping[Any, Any]],
    links: Iterable[Any],
    job: str | None,
    asked: Iterable[Mapping[Any, Any]],
    drop: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Of a registration. `held` are its rows of `files`, `asked` those of `idempotency`, `links` as of `links_of`."""
    return {
        **_staying(row, links),
        "salt": row.salt.hex(),
        "content_root": row.content_root.hex(),
        "metadata": row.metadata,
        "request": row.request,
        "job": job,
        "files": files_document(held),
        # So that whoever did not hear of it and asks again, after the database was lost, gets this one.
        "asked": [{**_only(a, "subject", "key", "at"), "request": a["request"].hex()} for a in asked],
        "drop": drop,
    }


def read_registration(connection: sa.Connection, row: Asset) -> dict[str, Any]:
    """`registration_document` of what the catalogue holds."""
    mine = {"asset": row.id}
    return registration_document(
        row,
        held=connection.execute(_FILES, mine).mappings(),
        links=links_of(connection, row),
        job=connection.scalar(_JOB, mine) if row.request is not None else None,
        asked=connection.execute(_ASKED, mine).mappings(),
        drop=drop_document(connection, row.id),
    )


def erased_document(connection: sa.Connection, row: Asset) -> dict[str, Any]:
    """What stays of a registration when its asset is erased."""
    return {
        **_staying(row, links_of(connection, row)),  # the ledger has its links too
        "files": [],
        "drop": drop_document(connection, row.id),  # or its files in the inbox would become a dataset again
        "erased": row.erased,
        "outcome": row.outcome,
        "revoked": row.revoked,
        "revocation_reason": row.revocation_reason,
    }


def drop_document(connection: sa.Connection, asset: str) -> dict[str, str] | None:
    """Of the inbox drop that an asset came from."""
    dropped = connection.execute(_DROP, {"asset": asset}).mappings().first()
    return None if dropped is None else _only(dropped, "prefix", "etag", "listing")


def files_document(held: Iterable[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Of rows of `files`."""
    return [_only(row, "part", "path", "size", "digest", "key") for row in held]


def links_of(connection: sa.Connection, row: Asset) -> list[Any]:
    """What an asset was made from, in order: parent, role, address. A dataset was made from nothing."""
    return [] if row.kind == Kind.DATASET else list(connection.execute(_LINKS, {"asset": row.id}))


def _staying(row: Asset, links: Iterable[Any]) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in STAYING},
        "record": row.record.hex(),
        "address": row.address,
        "parents": [{"parent": link.parent, "role": link.role} for link in links],
    }


def _only(row: Mapping[Any, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}
