"""Registration: declare → upload → confirm. What is acknowledged is frozen, journalled, and on its way to the ledger.

1. `declare` notes what is asked and what must be uploaded (state uploading).
2. `confirm`, once all bytes are there, freezes the record and with it the contract's address (registering),
3. writes the journal, and commits the registration with its outbox (registered, or queued for what has a job).
A crash between leaves a state that `confirm`, repeated by the client or by `sweep`, takes on from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import msgspec
import rfc8785
import sqlalchemy as sa

from polyshare import events
from polyshare.api import MOST_BROUGHT, MOST_FILES_BROUGHT, File, Registered, Registration, Uploading
from polyshare.assets import Caller, Kind, State, check_name
from polyshare.bootstrap import Ports
from polyshare.catalogue import outbox
from polyshare.catalogue.locks import lock, lock_asset
from polyshare.catalogue.tables import assets, files, idempotency, jobs, parents, stages, uploads, writes
from polyshare.errors import Conflict, Erased, Invalid, Mismatch, NotFound, TooLarge
from polyshare.hashing import digest_bytes
from polyshare.ledger.record import Record, asset_address, trust_root
from polyshare.manifest import Manifest, commitment
from polyshare.metadata import Metadata, check_fields
from polyshare.operations import journal
from polyshare.operations.access import UNACKNOWLEDGED, Asset, organisation_of
from polyshare.operations.documents import links_of, read_registration, registration_document
from polyshare.operations.reserve import is_reserved, take
from polyshare.operations.uploads import (
    Stored,
    brought_along,
    close,
    collect,
    missing,
    open_upload,
    reusable,
    sign_first,
    stored_by,
)
from polyshare.tracing import traceparent

DERIVED = (  # metadata that we write
    *("name", "version", "organisation", "registrant", "kind", "files", "bytes"),
    "checked_hash",  # SHA-256 of all the bytes of the one file, in one pass, which was checked when they came
)

# Made once: SQLAlchemy takes as long to make a statement as to run it, and these are run for every registration.
_ASSET = sa.select(assets).where(assets.c.id == sa.bindparam("asset"))
_ACKNOWLEDGE = (  # locks the row, as `lock_asset`
    assets.update()
    .where(assets.c.id == sa.bindparam("asset"), assets.c.state == State.REGISTERING)
    .values(state=sa.bindparam("into"))
)
_STORED = uploads.update().where(uploads.c.id == sa.bindparam("asset")).values(brought=None)
_UNDER_KEY = idempotency.c.subject == sa.bindparam("subject"), idempotency.c.key == sa.bindparam("key")
_BEGUN = sa.select(idempotency).where(*_UNDER_KEY)
_CLAIM = (
    idempotency.insert()
    .from_select(
        list(idempotency.c),
        sa.select(*(sa.bindparam(column.name, type_=column.type) for column in idempotency.c)).where(
            ~sa.exists().where(*_UNDER_KEY)
        ),
    )
    .execution_options(preserve_rowcount=True)
)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is to be registered, once its parents and environment are known."""

    kind: Kind
    registration: Registration
    manifest: Manifest  # what must be uploaded: the content, or the training source
    parents: Sequence[tuple[str, str]] = ()  # (asset id, role)
    request: Mapping[str, Any] | None = None  # of a job
    job: str | None = None  # action that follows
    fields: Mapping[str, Any] = field(default_factory=dict)  # further metadata
    once: str | None = None  # what the registry has one of, whoever asks for it
    reserved: str | None = None  # the id that was given out for it
    brought: Mapping[str, bytes] = field(default_factory=dict)  # path → bytes, of files that came with it


def manifest_of(listed: Sequence[File]) -> Manifest:
    """Raises Invalid or Mismatch naming the path."""
    return Manifest.from_json(
        [{name: getattr(file, name) for name in ("path", "size", "digest", "parts")} for file in listed]
    )


def brought_of(listed: Sequence[File]) -> dict[str, bytes]:
    """Path → bytes of the files that came with a declaration. Raises TooLarge, and Mismatch naming the path."""
    found = {file.path: file.data for file in listed if file.data is not None}
    if len(found) > MOST_FILES_BROUGHT or sum(map(len, found.values())) > MOST_BROUGHT:
        most = f"{MOST_FILES_BROUGHT} files of {MOST_BROUGHT} bytes together"
        raise TooLarge(f"a declaration brings at most {most}: leave out their data and upload them")
    for file in listed:
        if file.path in found and str(digest_bytes(found[file.path])) != file.digest:
            raise Mismatch(f"the data of {file.path!r} is not what its digest {file.digest} says")
    return found


def declare(ports: Ports, caller: Caller, declaration: Declaration, key: str | None) -> Registered | Uploading:
    """Begin a registration, or go on with the one begun under the same idempotency key.

    Raises Invalid, Forbidden, and Conflict if the key was used for something else.
    """
    registration = declaration.registration
    organisation = organisation_of(caller, registration.organisation)
    name = _name_of(registration.name, organisation)
    check_metadata(registration.metadata)
    asked = _fingerprint(declaration, organisation)
    now = ports.clock.now()
    subject, key = ("", declaration.once) if declaration.once else (caller.subject, key)
    # What needs no upload is frozen at once; of the rest nothing is fixed yet, so it may be forgotten.
    complete = bool(declaration.brought) or not declaration.manifest.entries
    asset = declaration.reserved or ports.new_id()
    under = [{"subject": subject, "key": key, "request": asked, "asset": asset, "at": now}] if key else []
    values = {
        "id": asset,
        "kind": declaration.kind,
        "organisation": organisation,
        "owner": caller.subject,
        "name": name,
        "visibility": registration.visibility,
        "state": State.UPLOADING,
        "created": now,
        "fields": {**registration.metadata, **declaration.fields},
        "request": declaration.request,
    }
    with ports.catalogue.transaction(flushed=complete) as connection:
        earlier = _claim(connection, under[0]) if under else None
        begun = None if earlier else _begin(connection, ports, caller, declaration, values, under, complete)
    if begun is not None and begun.frozen is not None:
        return registered(acknowledge(ports, *begun.frozen))
    return progress(ports, earlier or asset, None if begun is None or declaration.reserved else begun.absent)


@dataclass(frozen=True, slots=True)
class _Begun:
    """`frozen`, where all came along: the asset, the journal's document, and path → bytes of what is to be stored."""

    absent: Sequence[str]
    frozen: tuple[Asset, dict[str, Any], dict[str, bytes]] | None = None


def _begin(
    connection: sa.Connection,
    ports: Ports,
    caller: Caller,
    declaration: Declaration,
    values: dict[str, Any],
    asked: Sequence[dict[str, Any]],
    complete: bool,
) -> _Begun:
    asset, organisation, now = values["id"], values["organisation"], values["created"]
    if declaration.reserved:
        take(connection, declaration.reserved)
    for position, (parent, role) in enumerate(declaration.parents):
        connection.execute(parents.insert(), {"asset": asset, "position": position, "parent": parent, "role": role})
    if declaration.job:
        job = {"id": ports.new_id(), "asset": asset, "action": declaration.job, "created": now}
        connection.execute(jobs.insert(), {**job, "state": "waiting", "attempt": 0})
    manifest = declaration.manifest
    reused = reusable(connection, ports, caller, organisation, manifest)
    absent = [entry.path for entry in manifest.entries if entry.path not in reused]
    if not complete or not declaration.brought.keys() >= set(absent):
        connection.execute(stages.insert(), {"asset": asset, "stage": State.UPLOADING, "at": now})
        connection.execute(assets.insert(), values)
        open_upload(connection, ports, asset, organisation, manifest, reused)
        return _Begun(absent)
    brought = {path: declaration.brought[path] for path in absent}
    stored = stored_by(organisation, asset, manifest, reused)
    _take_turn(connection, asset, organisation, values["name"], reused)
    declared: Any = SimpleNamespace(**values)
    values |= _frozen(connection, ports, declared, manifest)
    row: Any = SimpleNamespace(**values, anchored=None)  # as it would be read
    connection.execute(assets.insert(), values)
    held = write_files(connection, asset, _part_of(row), stored)
    open_upload(connection, ports, asset, organisation, manifest, reused, brought)
    links = links_of(connection, row)
    document = registration_document(row, held=held, links=links, job=declaration.job, asked=asked)
    return _Begun(absent, (row, document, brought))


def progress(ports: Ports, asset: str, absent: Sequence[str] | None = None) -> Registered | Uploading:
    """How far a registration is: registered, or what must still be uploaded. Confirms what has nothing to upload.

    `absent`: what is known to be missing.
    """
    with ports.catalogue.reading() as connection:
        row = connection.execute(sa.select(assets).where(assets.c.id == asset)).one()
        if row.state not in UNACKNOWLEDGED:
            return registered(row)
        upload = connection.execute(sa.select(uploads).where(uploads.c.id == asset)).one()
        if row.state != State.UPLOADING:
            absent = []
        elif absent is None:
            absent = missing(connection, ports, asset)
    if absent:
        urls = sign_first(ports, row.organisation, asset, Manifest.from_json(upload.files), absent)
        return Uploading(id=asset, missing=list(absent), urls=urls, expires=upload.expires)
    return _confirm(ports, row, upload)


def uploading(connection: sa.Connection, caller: Caller, asset: str) -> Asset:
    """The caller's own registration by its id; raises NotFound for anybody else's."""
    row = connection.execute(sa.select(assets).where(assets.c.id == asset, assets.c.owner == caller.subject)).first()
    if row is None or row.organisation not in caller.organisations:
        raise NotFound(f"there is no upload {asset[:50]!r} of yours")
    if row.erased is not None:
        raise Erased(f"{asset} was erased")
    return row


def confirm(ports: Ports, asset: str, caller: Caller | None = None) -> Registered:
    """Register an asset whose bytes are all there; again is the same. Raises Conflict naming what is missing.

    With a caller, NotFound unless it is the caller's own.
    """
    with ports.catalogue.reading() as connection:
        if caller is not None:
            row = uploading(connection, caller, asset)
        else:
            row = connection.execute(sa.select(assets).where(assets.c.id == asset)).one()
        upload = connection.execute(sa.select(uploads).where(uploads.c.id == asset)).first()
    if is_reserved(row):
        raise Conflict(f"{asset} is reserved, and nothing was said of it yet that could be confirmed")
    return _confirm(ports, row, upload)


def _confirm(ports: Ports, row: Asset, upload: sa.Row[Any] | None) -> Registered:
    if row.state == State.UPLOADING:
        if upload is None or upload.closed:
            raise NotFound(f"the upload of {row.id} has expired: begin again")
        stored = collect(ports, row.organisation, row.id, Manifest.from_json(upload.files), upload.reused)
        row = freeze(ports, row.id, stored, upload.reused)
    if row.state == State.REGISTERING:
        row = acknowledge(ports, row)
    return registered(row)


def freeze(
    ports: Ports,
    asset: str,
    stored: Sequence[Stored],
    reused: Mapping[str, str],
    also: Callable[[sa.Connection], None] = lambda connection: None,
) -> Asset:
    """Fix the record, and so the contract's address. Nothing in it is computed later. `also`: in its transaction."""
    with ports.catalogue.transaction() as connection:
        row = lock_asset(connection, asset)
        assert row is not None
        if row.state != State.UPLOADING:
            return row
        _take_turn(connection, asset, row.organisation, row.name, reused)
        values = _frozen(connection, ports, row, Manifest.of(item.entry for item in stored))
        connection.execute(assets.update().where(assets.c.id == asset).values(**values))
        write_files(connection, asset, _part_of(row), stored)
        close(connection, asset)
        also(connection)
        return connection.execute(sa.select(assets).where(assets.c.id == asset)).one()


def _take_turn(
    connection: sa.Connection, asset: str, organisation: str, name: str | None, reused: Mapping[str, str]
) -> None:
    """Wait for others that decide what this asset's record depends on: its version, and the bytes it shares."""
    if name is not None:  # two registrations of one name at once: the second takes the next version
        lock(connection, f"name {organisation}/{name}")
    _check_reused(connection, asset, reused)


def acknowledge(
    ports: Ports, row: Asset, document: Mapping[str, Any] | None = None, brought: Mapping[str, bytes] | None = None
) -> Asset:
    """Store what was brought along and the journal, then commit the registration with its ledger write, its job and
    its event. Returns the asset as it was before. `document` and `brought` are read where they are not given.

    The version before goes first: were it lost with the database, the ledger would wait for it for ever.

    The commit need not be flushed: what is frozen is, and so is the journal. A registration whose end a machine that
    lost power forgot is acknowledged again, and comes out as it was.
    """
    if document is None or brought is None:
        with ports.catalogue.reading() as connection:
            document = read_registration(connection, row)
            brought = brought_along(connection, row.id)
    if row.supersedes is not None:
        with ports.catalogue.reading() as connection:
            before = connection.execute(sa.select(assets).where(assets.c.id == row.supersedes)).one()
        if before.state == State.REGISTERING:
            acknowledge(ports, before)
    keys = {held["path"]: held["key"] for held in document["files"]}
    journal.register(ports, row.id, document, {keys[path]: data for path, data in brought.items()})
    with ports.catalogue.transaction(flushed=False) as connection:
        now = ports.clock.now()
        state = State.QUEUED if row.request is not None else State.REGISTERED
        if connection.execute(_ACKNOWLEDGE, {"asset": row.id, "into": state}).rowcount == 0:
            return connection.execute(_ASSET, {"asset": row.id}).one()
        if brought:
            connection.execute(_STORED, {"asset": row.id})
        connection.execute(stages.insert(), {"asset": row.id, "stage": State.REGISTERED, "at": now})
        queue_registration(connection, ports, row)
        outbox.append(connection, events.ASSET_REGISTERED, subject=row.id, ports=ports)
        if row.request is not None:
            connection.execute(
                jobs.update().where(jobs.c.asset == row.id).values(traceparent=traceparent() or jobs.c.traceparent)
            )
            outbox.append(connection, events.JOB_READY, subject=row.id, ports=ports)
        return row


def queue_registration(connection: sa.Connection, ports: Ports, row: Asset) -> None:
    """Ask anchor to write an asset's record, after those it links to."""
    after = [link.parent for link in links_of(connection, row)]
    connection.execute(
        writes.insert(),
        {
            "asset": row.id,
            "action": "register",
            "entry": {"id": row.id.replace("-", ""), "kind": row.kind, "record": row.record.hex()},
            "after": after + ([row.supersedes] if row.supersedes else []),
            "state": "pending",
            "created": ports.clock.now(),
        },
    )


def write_files(connection: sa.Connection, asset: str, part: str, stored: Sequence[Stored]) -> list[dict[str, Any]]:
    """Note which blobs hold an asset's files; returns the rows."""
    rows = [
        {
            "asset": asset,
            "part": part,
            "position": position,
            "path": item.entry.path,
            "size": item.entry.size,
            "digest": str(item.entry.digest),
            "key": item.key,
        }
        for position, item in enumerate(stored)
    ]
    if rows:
        connection.execute(files.insert(), rows)
    return rows


def registered(row: Asset) -> Registered:
    return Registered(
        id=row.id,
        kind=Kind(row.kind).label,
        address=row.address,
        anchored=row.anchored is not None,
        organisation=row.organisation,
        name=row.name,
        version=row.version,
    )


def _part_of(row: Asset) -> str:
    """What the files are that come with a declaration: those of a job are its training code."""
    return "source" if row.request is not None else "content"


def _frozen(connection: sa.Connection, ports: Ports, row: Asset, manifest: Manifest) -> dict[str, Any]:
    before = None
    version = None
    if row.name is not None:
        before = connection.execute(
            sa.select(assets)
            .where(assets.c.organisation == row.organisation, assets.c.name == row.name, assets.c.version.is_not(None))
            .order_by(assets.c.version.desc())
            .limit(1)
        ).first()
        version = before.version + 1 if before else 1
    request = row.request
    if request is not None:
        request = {**request, "source": manifest.content_root.hex() if manifest.entries else None}
        content_root = sha256(rfc8785.dumps(request)).digest()
    else:
        content_root = manifest.content_root
    fields = {
        **row.fields,
        "kind": Kind(row.kind).label,
        "organisation": row.organisation,
        "registrant": row.owner,
        **({"name": row.name, "version": version} if row.name else {}),
        **({"files": len(manifest.entries), "bytes": manifest.size} if request is None else {}),
    }
    sealed = Metadata.seal(fields, ports.random.bytes)
    salt = ports.random.bytes(32)
    record = Record(
        id=bytes.fromhex(row.id.replace("-", "")),
        kind=Kind(row.kind),
        commitment=commitment(salt, content_root),
        metadata_root=sealed.root,
        supersedes=bytes.fromhex(before.address[2:]) if before else None,
        parents=tuple(bytes.fromhex(link.address[2:]) for link in links_of(connection, row)),
        environment=bytes.fromhex(request["environment"].rpartition(":")[2]) if request else None,
        opset=request["opset"] if request and row.kind == Kind.TRANSLATION else None,
    ).encode()
    address = asset_address(trust_root(ports.settings.trust_root), row.kind, record)
    return {
        "state": State.REGISTERING,
        "version": version,
        "supersedes": before.id if before else None,
        "salt": salt,
        "content_root": content_root,
        "metadata": sealed.to_json(),
        "request": request,
        "record": record,
        "address": "0x" + address.hex(),
    }


def _check_reused(connection: sa.Connection, asset: str, reused: Mapping[str, str]) -> None:
    """Raises Conflict if a blob that was there at the declaration was erased since.

    Who has them is not erased before this transaction ends: erasing, which looks who else has them, comes after it.
    """
    wanted = set(reused.values())
    if not wanted:
        return
    held = connection.execute(
        sa.select(files.c.key)
        .join(assets, assets.c.id == files.c.asset)
        .where(files.c.key.in_(wanted), assets.c.erased.is_(None))
        .order_by(assets.c.id)
        .with_for_update(read=True, of=assets)
    )
    if wanted - {row.key for row in held}:
        raise Conflict(f"bytes that {asset} was to share were erased meanwhile: begin again with a new upload")


def _claim(connection: sa.Connection, asked: Mapping[str, Any]) -> str | None:
    """Note what is asked under a key, a row of `idempotency`; the asset, where it was asked before.

    Raises Conflict if that was something else.
    """
    lock(connection, f"idempotency {asked['subject']} {asked['key']}")
    if connection.execute(_CLAIM, asked).rowcount:
        return None
    before = connection.execute(_BEGUN, asked).one()
    if before.request != asked["request"]:
        raise Conflict("this Idempotency-Key was used for another request: use a new one")
    state = connection.scalar(sa.select(assets.c.state).where(assets.c.id == before.asset))
    closed = connection.scalar(sa.select(uploads.c.closed).where(uploads.c.id == before.asset))
    if state is not None and (state != State.UPLOADING or closed is False):
        return str(before.asset)
    # It expired: begun again, under the same key.
    under = idempotency.c.subject == before.subject, idempotency.c.key == before.key
    connection.execute(idempotency.update().where(*under).values(asset=asked["asset"], at=asked["at"]))
    return None


def _fingerprint(declaration: Declaration, organisation: str) -> bytes:
    asked = msgspec.to_builtins(declaration.registration)
    listed = {"files": None, "source": None, "manifest": declaration.manifest.content_root.hex()}
    return sha256(msgspec.json.encode({**asked, **listed, "kind": declaration.kind, "for": organisation})).digest()


def _name_of(name: str | None, organisation: str) -> str | None:
    if name is None:
        return None
    owner, slash, short = name.rpartition("/")
    if slash and owner != organisation:
        raise Invalid(f"name {name[:200]!r} is of {owner[:100]!r}, but the asset is registered for {organisation!r}")
    return check_name(short)


def check_metadata(fields: Mapping[str, Any]) -> None:
    """Raises Invalid unless these fields can be registered and are not the registry's own."""
    check_fields(fields)
    taken = sorted(set(fields) & set(DERIVED))
    if taken:
        raise Invalid(f"metadata fields {', '.join(taken)} are written by the registry itself: leave them out")
