"""The bucket trigger: files dropped in the inbox become a dataset, without any call by their owner.

An organisation's key writes below `<org>/` only, so the prefix decides the organisation. `<org>/<name>/dataset.json`,
put last, says that the dataset is complete: {"metadata": {...}, "visibility": "..."}, both optional. What came of
it is written beside it, as `polyshare.status.json`. A notification is only a hint: `sweep` looks by itself.

Where <name> is the id of a reserved dataset, the files become that one; if its size or hash was announced, it is
complete without dataset.json, as soon as that many bytes are there, or else the first object.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec
import sqlalchemy as sa

from polyshare import events
from polyshare.api import Request, decode
from polyshare.assets import Kind, State, Visibility, check_name
from polyshare.bootstrap import Ports
from polyshare.catalogue import outbox
from polyshare.catalogue.locks import lock
from polyshare.catalogue.tables import assets, inbox_drops, jobs, stages
from polyshare.errors import Invalid, Mismatch, NotFound, PolyshareError, Unavailable
from polyshare.manifest import MOST_FILES, check_path, check_together
from polyshare.notifications import folder_of
from polyshare.operations.register import check_metadata
from polyshare.operations.reserve import asked_of, fail, looks_like_an_id, reserved_dataset, take
from polyshare.ports import Listed

MARKER = "dataset.json"
STATUS = "polyshare.status.json"
_LARGEST_MARKER = 256 * 1024


class Drop(Request):
    """The body of dataset.json."""

    metadata: dict[str, Any] = {}
    visibility: Visibility = Visibility.ORGANISATION


def look(ports: Ports, prefix: str = "") -> int:
    """Begin an ingest for each complete dataset below `prefix` that has none yet. Returns how many."""
    begun = 0
    for folder, marker, objects in _folders(ports, prefix):
        if marker is None:
            marker = _announced(ports, folder, objects)
            if marker is None:
                continue
        elif any(item.modified > marker.modified for item in objects):
            _tell_to_wait(ports, folder)
            continue
        with ports.catalogue.reading() as connection:
            if _is_known(connection, folder, marker, objects):
                continue
        begun += _begin(ports, folder, marker, objects)
    return begun


def prefix_of(event: events.Event) -> str:
    """The prefix that a storage notification is about; "" looks everywhere."""
    return folder_of(event.subject, event.data)


def report(ports: Ports, asset: str) -> None:
    """Write beside a dropped dataset what came of it."""
    with ports.catalogue.reading() as connection:
        row = connection.execute(
            sa.select(inbox_drops.c.prefix, assets.c.state, assets.c.reason, assets.c.version, assets.c.address)
            .join(assets, assets.c.id == inbox_drops.c.asset)
            .where(inbox_drops.c.asset == asset)
        ).first()
    if row is not None:
        _write_status(
            ports,
            row.prefix,
            {"id": asset, "state": row.state, "version": row.version, "address": row.address, "reason": row.reason},
        )


def _begin(ports: Ports, folder: str, marker: Listed, objects: list[Listed]) -> int:
    organisation, name = folder.split("/")[:2]
    now = ports.clock.now()
    with ports.catalogue.reading() as connection:
        reserved = reserved_dataset(connection, organisation, name)
    asked = {} if reserved is None else asked_of(reserved)
    try:
        drop = _read(ports, marker) if marker.key == folder + MARKER else Drop()
        check_name(organisation, "organisation")
        check_name(name)
        if reserved is None and looks_like_an_id(name):
            raise Invalid(f"{name} is not the id of a dataset that is reserved for {organisation}: drop it elsewhere")
        listed = [
            {"path": check_path(item.key.removeprefix(folder)), "key": item.key, "size": item.size, "etag": item.etag}
            for item in objects
        ]
        if not listed:
            raise Invalid(f"{folder} has no files beside {MARKER}")
        if len(listed) > MOST_FILES:
            raise Invalid(f"{folder} has more than {MOST_FILES} files")
        check_together(str(item["path"]) for item in listed)
        _check_announced(folder, asked, listed)
    except Unavailable:
        raise
    except PolyshareError as error:
        with ports.catalogue.transaction() as connection:
            lock(connection, f"drop {folder}")
            if _is_known(connection, folder, marker, objects):
                return 0
            connection.execute(
                inbox_drops.insert().values(asset="", problem=error.message, **_named(folder, marker, objects))
            )
            if reserved is not None and isinstance(error, Mismatch):
                fail(connection, ports, reserved.id, error.message)
        _write_status(ports, folder, {"state": "refused", "reason": error.message})
        return 0
    with ports.catalogue.transaction() as connection:
        lock(connection, f"drop {folder}")
        if _is_known(connection, folder, marker, objects):
            return 0
        asset = ports.new_id() if reserved is None else take(connection, reserved.id)
        connection.execute(
            assets.insert().values(
                id=asset,
                kind=Kind.DATASET,
                organisation=organisation,
                owner=f"inbox:{organisation}" if reserved is None else reserved.owner,
                name=name if reserved is None else None,
                visibility=drop.visibility,
                state=State.UPLOADING,
                created=now,
                fields={**drop.metadata, **({} if reserved is None else reserved.fields), **_checked(asked)},
            )
        )
        connection.execute(
            jobs.insert().values(
                id=ports.new_id(), asset=asset, action="ingest", state="waiting", attempt=0, created=now, inbox=listed
            )
        )
        connection.execute(stages.insert().values(asset=asset, stage=State.UPLOADING, at=now, detail=folder))
        connection.execute(inbox_drops.insert().values(asset=asset, **_named(folder, marker, objects)))
        outbox.append(connection, events.JOB_READY, subject=asset, ports=ports)
    _write_status(ports, folder, {"id": asset, "state": "ingesting"})
    return 1


def _named(folder: str, marker: Listed, objects: list[Listed]) -> dict[str, str]:
    """What a drop is known by: the marker as it was put this time, and the listing that it completed."""
    listed = msgspec.json.encode([(item.key, item.etag) for item in [marker, *objects]])
    return {"prefix": folder, "etag": f"{marker.etag}@{marker.modified}", "listing": sha256(listed).hexdigest()}


def _is_known(connection: sa.Connection, folder: str, marker: Listed, objects: list[Listed]) -> bool:
    """Whether this drop came to something: the same marker, or the same files with a marker put once more."""
    named = _named(folder, marker, objects)
    same = sa.or_(inbox_drops.c.etag == named["etag"], inbox_drops.c.listing == named["listing"])
    if looks_like_an_id(folder.split("/")[1]):  # of a reserved dataset: there is one drop under it
        same = sa.or_(same, inbox_drops.c.asset != "")
    known = sa.select(inbox_drops.c.asset).where(inbox_drops.c.prefix == folder, same)
    return connection.execute(known.limit(1)).first() is not None


def _tell_to_wait(ports: Ports, folder: str) -> None:
    """The next version is being put, its marker comes last. Who put the marker first learns it here."""
    status = {"state": "waiting", "reason": f"files were put after {MARKER}: put it again when all are there"}
    try:
        if ports.inbox().get(folder + STATUS) == msgspec.json.encode(status):
            return
    except NotFound:
        pass
    _write_status(ports, folder, status)


def _read(ports: Ports, marker: Listed) -> Drop:
    if marker.size > _LARGEST_MARKER:
        raise Invalid(f"{marker.key} is over {_LARGEST_MARKER} bytes")
    body = ports.inbox().get(marker.key)
    try:
        drop: Drop = decode(body or b"{}", Drop)
        check_metadata(drop.metadata)
    except Invalid as error:
        raise Invalid(f"{marker.key}: {error.message}") from error
    if drop.visibility == Visibility.PRIVATE:
        raise Invalid(f"{marker.key}: a drop has no registrant, so nobody could read a private one: say organisation")
    return drop


def _folders(ports: Ports, prefix: str) -> Iterator[tuple[str, Listed | None, list[Listed]]]:
    """Each `<org>/<name>/`, its marker if it has one, and its other objects."""
    folder, marker, objects = "", None, list[Listed]()
    for item in ports.inbox().list(prefix):
        parts = item.key.split("/")
        if len(parts) < 3:
            continue
        here = f"{parts[0]}/{parts[1]}/"
        if here != folder:
            if folder:
                yield folder, marker, objects
            folder, marker, objects = here, None, []
        if item.key == here + MARKER:
            marker = item
        elif item.key != here + STATUS:
            objects.append(item)
    if folder:
        yield folder, marker, objects


def _announced(ports: Ports, folder: str, objects: list[Listed]) -> Listed | None:
    """What completes a reserved dataset whose size or hash was announced, if it is there: its newest object."""
    organisation, name = folder.split("/")[:2]
    if not objects or not looks_like_an_id(name):
        return None
    with ports.catalogue.reading() as connection:
        reserved = reserved_dataset(connection, organisation, name)
    asked = {} if reserved is None else asked_of(reserved)
    enough = asked.get("size_bytes") or (0 if "hash" in asked else None)
    if enough is None or sum(item.size for item in objects) < enough:
        return None
    return max(objects, key=lambda item: item.modified)


def _check_announced(folder: str, asked: dict[str, Any], listed: list[dict[str, Any]]) -> None:
    """Raises Mismatch unless the files are what was announced; a hash is compared when they are read."""
    size = sum(item["size"] for item in listed)
    if asked.get("size_bytes", size) != size:
        raise Mismatch(f"{folder} has {size} bytes, but {asked['size_bytes']} were announced: reserve another id")
    if "hash" in asked:
        if len(listed) != 1:
            raise Mismatch(f"{folder} has {len(listed)} files, but the hash of one was announced: reserve another id")
        listed[0]["hash"] = asked["hash"]


def _checked(asked: dict[str, Any]) -> dict[str, str]:
    """What the record may say once the ingest has compared it."""
    hash = str(asked.get("hash", ""))
    return {"checked_hash": hash} if hash.startswith("sha256:") else {}


def _write_status(ports: Ports, folder: str, status: dict[str, Any]) -> None:
    ports.inbox().put(folder + STATUS, msgspec.json.encode(status))
