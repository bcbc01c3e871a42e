"""What a job's own steps ask while it runs, with its token.

A job's token is random, kept as its hash, bound to (job, attempt) and good until the deadline. A new attempt fences the
one before.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Any

import msgspec
import sqlalchemy as sa

from polyshare.api import AskInputUrls, AskOutputUrls, JobDocument, JobProgress, SignedUrl
from polyshare.assets import Kind, State
from polyshare.bootstrap import Ports
from polyshare.catalogue.locks import lock_job
from polyshare.catalogue.tables import assets, files, jobs, parents, stages
from polyshare.errors import Conflict, Erased, Invalid, Unauthenticated
from polyshare.hashing import part_count
from polyshare.operations.access import Asset
from polyshare.operations.uploads import Wanted, key_of, parts_key, sign_parts
from polyshare.ports import Bucket


def begin(ports: Ports, job: str, token: str, attempt: int) -> JobDocument:
    """What the job's steps need to know. Raises Unauthenticated, or Conflict for an attempt that is fenced or over."""
    with ports.catalogue.transaction() as connection:
        lock_job(connection, job)
        row = _authorised(connection, ports, job, token, attempt)
        asset = connection.execute(sa.select(assets).where(assets.c.id == row.asset)).one()
        _advance(connection, ports, row, asset, "started")
        channels = channels_of(connection, row, asset)
    request = asset.request or {}
    document = JobDocument(
        job=job,
        attempt=attempt,
        action=row.action,
        asset=asset.id,
        organisation=asset.organisation,
        deadline=row.deadline,
        environment=request.get("environment"),
        program=request.get("program"),
        parameters=request.get("parameters", {}),
        limits=request.get("limits", {}),
        channels={name: [_item_json(ports, item) for item in items] for name, items in channels.items()},
        traceparent=row.traceparent or "",
    )
    if row.action == "translate":
        document.verifier = request["verifier"]
        document.translate = {"opset": request["opset"]}
    return document


def sign_inputs(ports: Ports, job: str, token: str, body: AskInputUrls) -> list[SignedUrl]:
    """Signed GETs of the job's inputs, and of nothing else; an inbox object only in the version that was listed."""
    with ports.catalogue.reading() as connection:
        row = _authorised(connection, ports, job, token, None)
        asset = connection.execute(sa.select(assets).where(assets.c.id == row.asset)).one()
        channels = channels_of(connection, row, asset)
    known = {(name, item["path"]): item for name, items in channels.items() for item in items}
    signed = []
    for wanted in body.files:
        item = known.get((wanted.channel, wanted.path))
        if item is None:
            raise Invalid(f"{wanted.path[:200]!r} is not an input of this job in channel {wanted.channel[:50]!r}")
        seconds = ports.settings.url_seconds
        if row.action == "ingest":
            request = ports.inbox().sign_get(item["key"], seconds=seconds, if_match=item["etag"])
        else:
            request = ports.store().sign_get(Bucket.BLOBS, item["key"], seconds=seconds)
        signed.append(SignedUrl(request.url, dict(request.headers)))
    return signed


def progress(ports: Ports, job: str, token: str, body: JobProgress) -> None:
    """Note where a job is; raises Conflict when it should stop."""
    with ports.catalogue.transaction() as connection:
        lock_job(connection, job)
        row = _authorised(connection, ports, job, token, body.attempt)
        asset = connection.execute(sa.select(assets).where(assets.c.id == row.asset)).one()
        if asset.erased is not None:
            raise Conflict(f"{asset.id} was erased: the job ends")
        _advance(connection, ports, row, asset, body.stage)
        values: dict[str, Any] = {"heard": ports.clock.now()}
        if body.log_tail:
            values["log_tail"] = body.log_tail
        connection.execute(jobs.update().where(jobs.c.id == job).values(**values))


def sign_outputs(ports: Ports, job: str, token: str, body: AskOutputUrls) -> list[SignedUrl | None]:
    """Signed PUTs of the parts of the job's outputs, None for what is there already."""
    with ports.catalogue.reading() as connection:
        row = _authorised(connection, ports, job, token, None)
        asset = connection.execute(sa.select(assets).where(assets.c.id == row.asset)).one()
    upload = upload_of(row)
    wanted: list[Wanted | None] = []
    for part in body.parts:
        if not 1 <= part.part <= part_count(part.size):
            raise Invalid(f"a file of {part.size} bytes has {part_count(part.size)} parts: there is no {part.part}")
        key = key_of(asset.organisation, upload, part.path, part.size, part.sha256)
        wanted.append(Wanted(key, part.size, part.part, bytes.fromhex(part.sha256)))
    return sign_parts(ports, upload, wanted)


def held(connection: sa.Connection, ports: Ports, job: str, token: str) -> sa.Row[Any]:
    """The job that the token is for; raises Unauthenticated, which does not tell whether there is such a job."""
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job)).first()
    given = sha256(token.encode()).digest()
    if row is None or row.token_hash is None or not hmac.compare_digest(row.token_hash, given):
        raise Unauthenticated("this token is not for this job and its running attempt")
    if row.deadline is not None and row.deadline < ports.clock.now():
        raise Unauthenticated("the job's token has expired")
    return row


def channels_of(connection: sa.Connection, row: sa.Row[Any], asset: Asset) -> dict[str, list[dict[str, Any]]]:
    """Channel → its files. A dataset's sub-folders train/ and test/ are its channels; without them all is train.

    Raises Erased if an input was erased meanwhile: what is left is not what was asked for.
    """
    if row.action == "ingest":
        return {"inbox": list(row.inbox)}
    channels: dict[str, list[dict[str, Any]]] = {}
    linked = connection.execute(sa.select(parents).where(parents.c.asset == asset.id)).all()
    for link in linked:
        parent = connection.execute(sa.select(assets).where(assets.c.id == link.parent)).one()
        if parent.erased is not None:
            raise Erased(f"{parent.id}, an input of this job, was erased")
        if link.role == "dataset":
            items = _items(connection, parent.id, "content")
            heads = {item["path"].split("/")[0] for item in items if "/" in item["path"]}
            split = heads & {"train", "test"}
            for item in items:
                head, _, rest = item["path"].partition("/")
                name, inside = (head, rest) if split and head in split and rest else ("train", item["path"])
                channels.setdefault(name, []).append({**item, "path": inside})
        else:
            channels["model"] = _items(connection, parent.id, "result" if parent.kind == Kind.MODEL else "content")
    source = _items(connection, asset.id, "source")
    if source:
        channels["code"] = source
    return channels


def upload_of(row: sa.Row[Any]) -> str:
    """The upload of a job's attempt; a fenced attempt writes below another prefix."""
    return _upload(row.id, row.attempt)


def uploads_of(row: sa.Row[Any]) -> list[str]:
    """The uploads of all attempts so far."""
    return [_upload(row.id, attempt) for attempt in range(1, row.attempt + 1)]


def _upload(job: str, attempt: int) -> str:
    return f"{job.replace('-', '')}{attempt:04d}"


def part_digests(ports: Ports, key: str) -> list[str]:
    """The part digests of a blob of more than one part, hexadecimal."""
    return list(msgspec.json.decode(ports.store().get(Bucket.BLOBS, parts_key(key))))


def _items(connection: sa.Connection, asset: str, part: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        sa.select(files).where(files.c.asset == asset, files.c.part == part).order_by(files.c.position)
    )
    return [{"path": r.path, "size": r.size, "digest": r.digest, "key": r.key} for r in rows]


def _item_json(ports: Ports, item: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {name: item[name] for name in ("path", "size", "digest", "etag", "hash") if name in item}
    if part_count(item["size"]) > 1 and "digest" in item:
        shown["parts"] = part_digests(ports, item["key"])
    return shown


def _advance(connection: sa.Connection, ports: Ports, row: sa.Row[Any], asset: Asset, stage: str) -> None:
    state = "publishing" if stage == "publishing" else "running"
    if row.action != "ingest":
        connection.execute(assets.update().where(assets.c.id == asset.id).values(state=State(state)))
    connection.execute(jobs.update().where(jobs.c.id == row.id).values(state=state, heard=ports.clock.now()))
    last = connection.scalar(
        sa.select(stages.c.stage).where(stages.c.asset == asset.id).order_by(stages.c.row.desc()).limit(1)
    )
    if last != stage[:32]:
        connection.execute(stages.insert().values(asset=asset.id, stage=stage[:32], at=ports.clock.now()))


def _authorised(connection: sa.Connection, ports: Ports, job: str, token: str, attempt: int | None) -> sa.Row[Any]:
    row = held(connection, ports, job, token)
    if row.completion is not None or row.state not in ("queued", "running", "publishing"):
        raise Conflict(f"job {job} is over")
    if attempt is not None and attempt != row.attempt:
        raise Conflict(f"attempt {attempt} of job {job} is fenced by attempt {row.attempt}")
    return row
