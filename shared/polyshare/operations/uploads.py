"""Uploads: bytes go from the client straight to the store, under keys that only their own upload ever writes.

The key of a file in one part ends in its digest, and its URL is signed with its checksum: what is there is what was
declared. Of a file in many parts, one checksum a part is ever signed. Small files may come with the declaration itself:
they are checked and stored here, which saves two round trips. Each upload has a prefix of its own, so knowing a hash
yields nothing: bytes count as there already only when they are a blob of an asset that the caller may read, and
anything else is uploaded again, with the same answers and the same work, whether somebody else has it or not.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from polyshare.api import SignedUrl
from polyshare.assets import Caller
from polyshare.bootstrap import Ports
from polyshare.catalogue.locks import lock
from polyshare.catalogue.tables import assets, files, multiparts, parts, uploads
from polyshare.errors import Conflict, Invalid, NotFound, TooLarge
from polyshare.hashing import part_count, part_range
from polyshare.manifest import Entry, Manifest
from polyshare.operations.access import UNACKNOWLEDGED, readable
from polyshare.ports import Bucket

_PAGE = 500
_FEW = 3  # files that are looked for one by one; listing them costs about as much as three
_FIRST, _FIRST_BYTES = 100, 256 * 1024 * 1024  # files and bytes whose URLs are given before they are asked for
_KNOWN = (
    sa.select(files.c.key)
    .where(
        files.c.digest == sa.bindparam("digest"),
        files.c.size == sa.bindparam("size"),
        files.c.key >= sa.bindparam("first"),
        files.c.key < sa.bindparam("last"),
    )
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A file and the key of the blob that holds it."""

    entry: Entry
    key: str


def prefix(organisation: str, upload: str) -> str:
    return f"{organisation}/{upload}/"


def key_of(organisation: str, upload: str, path: str, size: int, sha256_hex: str) -> str:
    """Where a file of an upload is stored; for a file in one part `sha256_hex` is its digest's, else it is not used."""
    count = part_count(size)
    last = sha256_hex if count == 1 else sha256(path.encode()).hexdigest()
    return f"{prefix(organisation, upload)}{size}-{count}-{last}"


def reusable(
    connection: sa.Connection, ports: Ports, caller: Caller, organisation: str, manifest: Manifest
) -> dict[str, str]:
    """Path → key, of the files whose bytes are in an asset of the organisation that the caller may read.

    Raises TooLarge.
    """
    if manifest.size > ports.settings.most_upload_bytes:
        raise TooLarge(f"{manifest.size} bytes are over the limit of {ports.settings.most_upload_bytes}")
    paths: dict[tuple[str, int], list[str]] = {}
    for entry in manifest.entries:
        paths.setdefault((str(entry.digest), entry.size), []).append(entry.path)
    found: dict[str, str] = {}
    for digest, size, key in _shared(connection, caller, organisation, sorted(paths), ports.clock.now()):
        if key is not None:
            found |= dict.fromkeys(paths[digest, size], key)
    return found


def open_upload(
    connection: sa.Connection,
    ports: Ports,
    upload: str,
    organisation: str,
    manifest: Manifest,
    reused: Mapping[str, str],
    brought: Mapping[str, bytes] | None = None,
) -> None:
    """Declare what will be uploaded: nothing where all the rest was `brought` along, which is kept until it is in the
    store."""
    values = {
        "id": upload,
        "organisation": organisation,
        "files": manifest.to_json(),
        "reused": reused,
        "expires": ports.clock.now() + ports.settings.upload_seconds,
        "closed": brought is not None,
        "brought": {path: b64encode(data).decode() for path, data in brought.items()} if brought else None,
    }
    connection.execute(uploads.insert(), values)


def brought_along(connection: sa.Connection, upload: str) -> dict[str, bytes]:
    """Path → bytes, of what came with the declaration and is not known to be in the store."""
    kept = connection.scalar(sa.select(uploads.c.brought).where(uploads.c.id == upload))
    return {path: b64decode(data) for path, data in (kept or {}).items()}


def missing(connection: sa.Connection, ports: Ports, upload: str) -> list[str]:
    """Paths of an open upload whose bytes are not all there. Raises NotFound."""
    row = _open(connection, upload)
    there = _there(ports, row.organisation, upload)
    done = _completed(connection, upload)
    return [
        entry.path
        for entry in Manifest.from_json(row.files).entries
        if entry.path not in row.reused and not _is_there(row, entry, there, done)
    ]


def sign_first(
    ports: Ports, organisation: str, upload: str, manifest: Manifest, absent: Sequence[str]
) -> dict[str, SignedUrl]:
    """Signed PUTs of the first missing files in one part: who uploads a few small files need not ask for any."""
    declared = {entry.path: entry for entry in manifest.entries}
    signed: dict[str, SignedUrl] = {}
    weight = 0
    for path in absent:
        digest = declared[path].digest
        weight += digest.size
        if len(signed) == _FIRST or weight > _FIRST_BYTES:
            break
        if digest.parts == 1:
            key = key_of(organisation, upload, path, digest.size, digest.sha256.hex())
            seconds = ports.settings.url_seconds
            request = ports.store().sign_put(Bucket.BLOBS, key, sha256=digest.sha256, seconds=seconds)
            signed[path] = SignedUrl(request.url, dict(request.headers))
    return signed


def stored_by(organisation: str, upload: str, manifest: Manifest, reused: Mapping[str, str]) -> list[Stored]:
    """Where the files of an upload are, or will be, each in one part or shared."""
    return [
        Stored(e, reused.get(e.path) or key_of(organisation, upload, e.path, e.size, e.digest.sha256.hex()))
        for e in manifest.entries
    ]


def sign(ports: Ports, upload: str, wanted: Sequence[tuple[str, int, bytes]]) -> list[SignedUrl | None]:
    """Signed PUTs for (path, part, sha256) of a declared upload, None for what is there already.

    Raises NotFound, Conflict if the upload is over, Invalid on a path or part that was not declared so.
    """
    with ports.catalogue.reading() as connection:
        row = _open(connection, upload)
        completed = _completed(connection, upload)
    declared = {entry.path: entry for entry in Manifest.from_json(row.files).entries}
    for path, part, digest in wanted:
        entry = declared.get(path)
        if entry is None:
            raise Invalid(f"{path[:200]!r} is not a file of this upload")
        expected = (entry.parts or (entry.digest.sha256,))[part - 1 : part]
        if expected != (digest,):
            raise Invalid(f"part {part} of {path[:200]!r} was not declared with this digest")
    there = _there(ports, row.organisation, upload)
    asked = []
    for path, part, digest in wanted:
        entry = declared[path]
        key = key_of(row.organisation, upload, path, entry.size, entry.digest.sha256.hex())
        done = path in row.reused or key in completed or (entry.digest.parts == 1 and there.get(key) == entry.size)
        asked.append(None if done else Wanted(key, entry.size, part, digest))
    return sign_parts(ports, upload, asked)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part to be uploaded, of a file of `size` bytes."""

    key: str
    size: int
    part: int
    sha256: bytes


def sign_parts(ports: Ports, upload: str, wanted: Sequence[Wanted | None]) -> list[SignedUrl | None]:
    """Signed PUTs, None where None was asked or the part is there; raises Conflict on another digest than before."""
    store, seconds = ports.store(), ports.settings.url_seconds
    of_many = [w for w in wanted if w is not None and part_count(w.size) > 1]
    started = _start_multiparts(ports, upload, {w.key for w in of_many})
    _fix_parts(ports, upload, of_many)
    sizes = {key: store.list_parts(Bucket.BLOBS, key, name) for key, name in started.items()}
    signed: list[SignedUrl | None] = []
    for w in wanted:
        if w is None or (w.key in sizes and sizes[w.key].get(w.part) == part_range(w.size, w.part)[1]):
            signed.append(None)
            continue
        if w.key in started:
            request = store.sign_part(Bucket.BLOBS, w.key, started[w.key], w.part, sha256=w.sha256, seconds=seconds)
        else:
            request = store.sign_put(Bucket.BLOBS, w.key, sha256=w.sha256, seconds=seconds)
        signed.append(SignedUrl(request.url, dict(request.headers)))
    return signed


def collect(
    ports: Ports, organisation: str, upload: str, manifest: Manifest, reused: Mapping[str, str]
) -> list[Stored]:
    """The stored files of a manifest, multipart ones completed; raises Conflict naming what is missing.

    Bytes are not read again: the store checked each against the checksum that its URL was signed with.
    """
    store = ports.store()
    wanted = [
        key_of(organisation, upload, entry.path, entry.size, entry.digest.sha256.hex())
        for entry in manifest.entries
        if entry.path not in reused and entry.digest.parts == 1
    ]
    there = _sizes(ports, wanted) if len(wanted) <= _FEW else _there(ports, organisation, upload)
    names: dict[str, sa.Row[Any]] = {}
    if any(entry.digest.parts > 1 for entry in manifest.entries):
        with ports.catalogue.reading() as connection:
            names = {r.key: r for r in connection.execute(sa.select(multiparts).where(multiparts.c.upload == upload))}
    stored, absent = [], []
    for entry in manifest.entries:
        key = reused.get(entry.path) or key_of(organisation, upload, entry.path, entry.size, entry.digest.sha256.hex())
        stored.append(Stored(entry, key))
        if entry.path in reused:
            continue
        if entry.digest.parts == 1:
            if there.get(key) != entry.size:
                absent.append(entry.path)
        elif key not in names or not (names[key].completed or _complete(ports, names[key], entry)):
            absent.append(entry.path)
    if absent:
        raise Conflict(
            f"{len(absent)} files are not uploaded yet, {absent[0][:200]!r} among them", missing=absent[:100]
        )
    for item in stored:
        if item.entry.path not in reused and item.entry.digest.parts > 1:
            store.put(Bucket.BLOBS, parts_key(item.key), json.dumps([p.hex() for p in item.entry.parts]).encode())
    return stored


def parts_key(key: str) -> str:
    """Where the part digests of a blob of more than one part are kept."""
    return f"{key}.parts"


def close(connection: sa.Connection, upload: str) -> None:
    """Nothing more is uploaded."""
    connection.execute(uploads.update().where(uploads.c.id == upload).values(closed=True))


def drop(ports: Ports, organisation: str, upload: str) -> None:
    """Delete what an upload that came to nothing left in the store, except blobs that an asset refers to."""
    store = ports.store()
    with ports.catalogue.reading() as connection:
        unfinished = connection.execute(
            sa.select(multiparts).where(multiparts.c.upload == upload, ~multiparts.c.completed)
        ).all()
        listed = [item.key for item in store.list(Bucket.BLOBS, prefix(organisation, upload))]
        used = set(connection.scalars(sa.select(files.c.key).where(*below(prefix(organisation, upload)))))
    for row in unfinished:
        store.abort_multipart(Bucket.BLOBS, row.key, row.multipart)
    store.delete(Bucket.BLOBS, [key for key in listed if key.removesuffix(".parts") not in used])
    with ports.catalogue.transaction() as connection:
        keys = sa.select(multiparts.c.key).where(multiparts.c.upload == upload)
        connection.execute(parts.delete().where(parts.c.key.in_(keys)))
        connection.execute(multiparts.delete().where(multiparts.c.upload == upload))
        connection.execute(uploads.delete().where(uploads.c.id == upload))


def _shared(
    connection: sa.Connection, caller: Caller, organisation: str, wanted: Sequence[tuple[str, int]], now: float
) -> Iterable[tuple[str, int, str | None]]:
    """For each (digest, size) the key of one blob that has it: the same bytes may be in very many assets.

    A few are asked for one by one, as a list of values makes a statement that has to be compiled every time.
    """

    def one(digest: Any, size: Any) -> sa.Select[Any]:
        held = sa.select(files.c.key).join(assets, assets.c.id == files.c.asset)
        held = held.where(files.c.digest == digest, files.c.size == size, *below(f"{organisation}/"))
        held = held.where(readable(caller, now))
        held = held.where(assets.c.organisation == organisation, assets.c.erased.is_(None))
        held = held.where(assets.c.state.not_in(UNACKNOWLEDGED))  # what came along may not be in the store before
        return held.order_by(files.c.key).limit(1)

    if len(wanted) <= _FEW:
        # Mostly nobody has them, which a smaller question tells.
        first, last = _range(f"{organisation}/")
        return [
            (digest, size, connection.scalar(one(digest, size)))
            for digest, size in wanted
            if connection.scalar(_KNOWN, {"digest": digest, "size": size, "first": first, "last": last}) is not None
        ]
    columns = sa.column("digest", sa.String), sa.column("size", sa.BigInteger)
    found: list[tuple[str, int, str | None]] = []
    for page in _pages(wanted):
        asked = sa.values(*columns, name="wanted").data(list(page)).cte("wanted")
        key = one(asked.c.digest, asked.c.size).scalar_subquery()
        found += [(d, s, k) for d, s, k in connection.execute(sa.select(asked.c.digest, asked.c.size, key))]
    return found


def below(prefix: str) -> tuple[sa.ColumnElement[bool], ...]:
    """That a blob's key begins with a prefix which ends in a slash: a range of the index, whatever is in it."""
    first, last = _range(prefix)
    return files.c.key >= first, files.c.key < last


def _range(prefix: str) -> tuple[str, str]:
    return prefix, prefix[:-1] + "0"  # what follows "/" in ASCII


def _start_multiparts(ports: Ports, upload: str, keys: set[str]) -> dict[str, str]:
    """Key → the store's name of its multipart upload; two callers at once get the same."""
    if not keys:
        return {}
    known = sa.select(multiparts.c.key, multiparts.c.multipart).where(multiparts.c.key.in_(keys))
    with ports.catalogue.reading() as connection:
        names: dict[str, str] = {row.key: row.multipart for row in connection.execute(known)}
    for key in sorted(keys - names.keys()):
        name = ports.store().start_multipart(Bucket.BLOBS, key)
        with ports.catalogue.transaction() as connection:
            lock(connection, f"upload {upload}")
            other = connection.scalar(sa.select(multiparts.c.multipart).where(multiparts.c.key == key))
            if other is None:
                connection.execute(multiparts.insert().values(key=key, upload=upload, multipart=name))
        if other is not None:
            ports.store().abort_multipart(Bucket.BLOBS, key, name)
        names[key] = other or name
    return names


def _fix_parts(ports: Ports, upload: str, wanted: Iterable[Wanted]) -> None:
    """Only one digest is ever signed for a part, so what is there is what was declared."""
    rows = [{"key": w.key, "number": w.part, "sha256": w.sha256} for w in wanted]
    if not rows:
        return
    with ports.catalogue.transaction() as connection:
        lock(connection, f"upload {upload}")
        for row in rows:
            fixed = connection.scalar(
                sa.select(parts.c.sha256).where(parts.c.key == row["key"], parts.c.number == row["number"])
            )
            if fixed is None:
                connection.execute(parts.insert().values(**row))
            elif fixed != row["sha256"]:
                raise Conflict(f"part {row['number']} is being uploaded with another digest: start a new upload")


def _complete(ports: Ports, row: sa.Row[Any], entry: Entry) -> bool:
    """Make the object of its parts; False if some are missing."""
    with ports.catalogue.reading() as connection:
        fixed: dict[int, bytes] = {
            r.number: r.sha256 for r in connection.execute(sa.select(parts).where(parts.c.key == row.key))
        }
    digests = [fixed.get(number, b"") for number in range(1, entry.digest.parts + 1)]
    if digests != list(entry.parts):
        return False
    store = ports.store()
    try:
        sizes = store.list_parts(Bucket.BLOBS, row.key, row.multipart)
    except NotFound:  # completed by a call that died before it said so
        head = store.head(Bucket.BLOBS, row.key)
        if head is None or head.size != entry.size:
            return False
    else:
        expected = {n: part_range(entry.size, n)[1] for n in range(1, entry.digest.parts + 1)}
        if any(sizes.get(n) != size for n, size in expected.items()):
            return False
        store.complete_multipart(Bucket.BLOBS, row.key, row.multipart, entry.parts)
    with ports.catalogue.transaction() as connection:
        connection.execute(multiparts.update().where(multiparts.c.key == row.key).values(completed=True))
    return True


def _open(connection: sa.Connection, upload: str) -> sa.Row[Any]:
    row = connection.execute(sa.select(uploads).where(uploads.c.id == upload)).first()
    if row is None:
        raise NotFound(f"there is no upload {upload}")
    if row.closed:
        raise Conflict(f"upload {upload} is over")
    return row


def _there(ports: Ports, organisation: str, upload: str) -> dict[str, int]:
    return {item.key: item.size for item in ports.store().list(Bucket.BLOBS, prefix(organisation, upload))}


def _sizes(ports: Ports, keys: Sequence[str]) -> dict[str, int]:
    heads = {key: ports.store().head(Bucket.BLOBS, key) for key in keys}
    return {key: head.size for key, head in heads.items() if head is not None}


def _completed(connection: sa.Connection, upload: str) -> set[str]:
    done = sa.select(multiparts.c.key).where(multiparts.c.upload == upload, multiparts.c.completed)
    return set(connection.scalars(done))


def _is_there(row: sa.Row[Any], entry: Entry, there: dict[str, int], completed: set[str]) -> bool:
    key = key_of(row.organisation, row.id, entry.path, entry.size, entry.digest.sha256.hex())
    return key in completed if entry.digest.parts > 1 else there.get(key) == entry.size


def _pages(items: Sequence[tuple[str, int]]) -> Iterable[Sequence[tuple[str, int]]]:
    for start in range(0, len(items), _PAGE):
        yield items[start : start + _PAGE]
