"""What a reader gets of an asset: the document that verifies it, and short URLs of single files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from polyshare.api import (
    AskDownloadUrls,
    AssetDocument,
    Chain,
    ContentDocument,
    DownloadUrl,
    FileDocument,
    RequestDocument,
    ResultDocument,
    RevokedDocument,
)
from polyshare.assets import Caller, Kind, State, Visibility
from polyshare.bootstrap import Ports
from polyshare.catalogue.tables import files
from polyshare.errors import Conflict, Erased, Invalid
from polyshare.hashing import part_count
from polyshare.operations.access import UNACKNOWLEDGED, Asset, find, note
from polyshare.operations.jobs import part_digests
from polyshare.operations.lineage import ancestry
from polyshare.ports import Bucket

SCHEMA = "polyshare/asset/1"
PARTS = {"main": ("content", "result"), "source": ("source",), "report": ("report",)}


def document(ports: Ports, caller: Caller, reference: str) -> AssetDocument:
    """All that its reader needs to check an asset. Raises NotFound, Conflict before it is registered, Erased."""
    now = ports.clock.now()
    with ports.catalogue.reading() as connection:
        asset = _available(connection, caller, reference, now)
        listed = _files(connection, asset.id)
        family = ancestry(connection, caller, asset, now)
    is_job = asset.request is not None
    return AssetDocument(
        schema=SCHEMA,
        id=asset.id,
        kind=Kind(asset.kind).label,
        organisation=asset.organisation,
        name=asset.name,
        version=asset.version,
        state=State(asset.state),
        created=asset.created,
        registrant=asset.owner,
        address=asset.address,
        anchored=asset.anchored is not None,
        chain=chain(ports),
        record=asset.record.hex(),
        metadata=asset.metadata,
        content=None if is_job else _content(asset.salt, asset.content_root, listed["content"]),
        request=RequestDocument(salt=asset.salt.hex(), root=asset.content_root.hex(), request=asset.request)
        if is_job
        else None,
        result=_result(asset, listed["result"]),
        source=_documents(listed["source"]),
        report=_documents(listed["report"]),
        lineage=family,
        revoked=_revoked(asset),
        erased=False,
        reason=asset.reason,
    )


def sign(ports: Ports, caller: Caller, reference: str, body: AskDownloadUrls) -> list[DownloadUrl]:
    """A short URL for each path, good for that object alone. Reads of what is not public are in the audit log."""
    if body.part not in PARTS:
        raise Invalid(f"there is no part {body.part[:50]!r} of an asset: take {', '.join(PARTS)}")
    now = ports.clock.now()
    with ports.catalogue.reading() as connection:
        asset = _available(connection, caller, reference, now)
        held = {
            row.path: row
            for row in connection.execute(
                sa.select(files).where(
                    files.c.asset == asset.id, files.c.part.in_(PARTS[body.part]), files.c.path.in_(body.paths)
                )
            )
        }
    absent = [path for path in body.paths if path not in held]
    if absent:
        raise Invalid(f"{reference} has no file {absent[0][:200]!r} in its part {body.part}")
    if asset.visibility != Visibility.PUBLIC:
        with ports.catalogue.transaction() as connection:
            note(connection, caller, "read", asset, now, detail={"files": len(body.paths), "part": body.part})
    store, seconds = ports.store(), ports.settings.url_seconds
    signed = []
    for path in body.paths:
        row = held[path]
        request = store.sign_get(Bucket.BLOBS, row.key, seconds=seconds)
        digests = part_digests(ports, row.key) if part_count(row.size) > 1 else []
        signed.append(DownloadUrl(request.url, dict(request.headers), digests))
    return signed


def chain(ports: Ports) -> Chain:
    """The trust root as this registry states it; a verifier pins its own."""
    root = ports.settings.trust_root
    return Chain(
        chain_id=root["chain_id"],
        registry=root["registry"],
        definitions=dict(root["definitions"]),
        rpc=ports.settings.ledger_rpc or None,
    )


def _available(connection: sa.Connection, caller: Caller, reference: str, now: float) -> Asset:
    asset = find(connection, caller, reference, now)
    if asset.erased is not None:
        raise Erased(f"{reference} was erased: its record {asset.address} stays on the ledger, its bytes are gone")
    if asset.state in UNACKNOWLEDGED or asset.record is None:
        raise Conflict(f"{reference} is {asset.state}: it can be fetched when it is registered")
    return asset


def _files(connection: sa.Connection, asset: str) -> dict[str, list[sa.Row[Any]]]:
    found: dict[str, list[sa.Row[Any]]] = {"content": [], "source": [], "result": [], "report": []}
    for row in connection.execute(sa.select(files).where(files.c.asset == asset).order_by(files.c.position)):
        found[row.part].append(row)
    return found


def _result(asset: Asset, held: Sequence[sa.Row[Any]]) -> ResultDocument | None:
    if asset.outcome is None:
        return None
    return ResultDocument(
        outcome=asset.outcome,
        anchored=asset.result_anchored is not None,
        content=_content(asset.result_salt, asset.result_root, held),
        metadata=asset.result_metadata,
        provenance=asset.provenance.hex(),
        run=asset.run,
    )


def _revoked(asset: Asset) -> RevokedDocument | None:
    if asset.revoked is None:
        return None
    return RevokedDocument(asset.revocation_reason, int(asset.revoked), asset.revocation_anchored is not None)


def _content(salt: bytes, root: bytes, held: Sequence[sa.Row[Any]]) -> ContentDocument:
    return ContentDocument(salt=salt.hex(), root=root.hex(), files=_documents(held))


def _documents(held: Sequence[sa.Row[Any]]) -> list[FileDocument]:
    return [FileDocument(row.path, row.size, row.digest) for row in held]
