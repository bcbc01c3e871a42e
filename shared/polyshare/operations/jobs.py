"""Jobs: start what is ready, and take what a job's own steps tell with its token.

A job's token is random, kept as its hash, bound to (job, attempt) and good until the deadline. A new attempt fences the
one before. A completion is accepted once; the same again is answered the same, another is refused.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import rfc8785
import sqlalchemy as sa

from polyshare import events
from polyshare.api import AskInputUrls, AskOutputUrls, CompleteJob, File, JobDocument, JobProgress, SignedUrl
from polyshare.assets import Kind, State
from polyshare.bootstrap import Ports
from polyshare.catalogue import outbox
from polyshare.catalogue.locks import lock_job
from polyshare.catalogue.tables import assets, files, jobs, parents, stages, writes
from polyshare.errors import Conflict, Erased, Forbidden, Invalid, Unauthenticated
from polyshare.hashing import Digest, part_count
from polyshare.jobs.job import Job
from polyshare.jobs.record import dependencies_on
from polyshare.ledger.record import COMPLETED, FAILED
from polyshare.manifest import Entry, Manifest, commitment
from polyshare.metadata import Metadata
from polyshare.operations import journal
from polyshare.operations.access import Asset
from polyshare.operations.register import acknowledge, files_document, freeze, manifest_of, write_files
from polyshare.operations.uploads import Stored, Wanted, collect, key_of, parts_key, sign_parts
from polyshare.ports import Bucket, Result
from polyshare.urls import function_url

_log = logging.getLogger("polyshare")
ATTEMPTS = 3  # of the platform; a training that fails by its own fault is not tried again
_QUEUE_SECONDS = 7 * 86_400  # that a job may wait for its turn
_END = {"train": ("trained", State.TRAINED), "translate": ("translated", State.TRANSLATED)}


def start_ready(ports: Ports, registered: Sequence[str]) -> None:
    """Start the jobs of assets and of their children, where all their parents are anchored. Again is the same."""
    with ports.catalogue.reading() as connection:
        children = sa.select(parents.c.asset).where(parents.c.parent.in_(registered))
        mine = sa.or_(jobs.c.asset.in_(registered), jobs.c.asset.in_(children))
        waiting = connection.scalars(sa.select(jobs.c.id).where(jobs.c.state == "waiting", mine)).all()
    for job in waiting:
        start(ports, job)


def start(ports: Ports, job: str, *, lost: int | None = None) -> bool:
    """Hand a job's next attempt to the runner if it may start; also after the attempt that is `lost`."""
    now = ports.clock.now()
    token = ports.random.bytes(32).hex()
    with ports.catalogue.transaction() as connection:
        lock_job(connection, job)
        row = connection.execute(sa.select(jobs).where(jobs.c.id == job)).one()
        if row.state != "waiting" and (row.attempt != lost or row.state in ("done", "failed")):
            return False
        if row.completion is not None:
            return False
        asset = connection.execute(sa.select(assets).where(assets.c.id == row.asset)).one()
        if not _may_start(connection, row, asset):
            return False
        gone = _erased_parent(connection, asset)
        if gone is None:
            deadline = now + _QUEUE_SECONDS + _most_seconds(ports, asset) * 3
            connection.execute(
                jobs.update()
                .where(jobs.c.id == job)
                .values(
                    state="queued",
                    attempt=row.attempt + 1,
                    token_hash=sha256(token.encode()).digest(),
                    deadline=deadline,
                    heard=now,
                )
            )
            if asset.state in (State.RUNNING, State.PUBLISHING):
                connection.execute(assets.update().where(assets.c.id == asset.id).values(state=State.QUEUED))
            again = f"attempt {row.attempt + 1}" if row.attempt else None
            connection.execute(stages.insert().values(asset=asset.id, stage="queued", at=now, detail=again))
    if gone is not None:
        fail(ports, job, f"{gone} was erased before the job could run")
        return False
    environment = (asset.request or {}).get("environment", "")
    ports.runner().submit(
        Job(
            id=job,
            attempt=row.attempt + 1,
            action=row.action,
            endpoint=function_url(ports.settings.functions_url, "complete_job"),
            token=token,
            deadline=deadline,
            requires={"environment": environment} if environment else {},
        )
    )
    told = {"asset": row.asset, "job": job, "attempt": row.attempt + 1, "action": row.action}
    _log.info("job handed to the runner", extra={"fields": told})
    return True


def begin(ports: Ports, job: str, token: str, attempt: int) -> JobDocument:
    """What the job's steps need to know. Raises Unauthenticated, or Conflict for an attempt that is fenced or over."""
    with ports.catalogue.transaction() as connection:
        lock_job(connection, job)
        row = _authorised(connection, ports, job, token, attempt)
        asset = connection.execute(sa.select(assets).where(assets.c.id == row.asset)).one()
        _advance(connection, ports, row, asset, "started")
        channels = _channels(connection, row, asset)
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
        channels = _channels(connection, row, asset)
    known = {(name, item["path"]): item for name, items in channels.items() for item in items}
    signed = []
    for wanted in body.files:
        item = known.get((wanted.channel, wanted.path))
        if item is None:
            raise Invalid(f"{wanted.path[:200]!r} is not an input of this job in channel {wanted.channel[:50]!r}")
        bucket = Bucket.INBOX if row.action == "ingest" else Bucket.BLOBS
        request = ports.store().sign_get(
            bucket, item["key"], seconds=ports.settings.url_seconds, if_match=item.get("etag")
        )
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


def complete(ports: Ports, job: str, token: str, body: CompleteJob) -> None:
    """Accept what came of a job, once. Raises Conflict for missing outputs, Forbidden for another completion."""
    digest = sha256(msgspec.json.encode(msgspec.to_builtins(body))).digest()
    with ports.catalogue.reading() as connection:
        row = _held(connection, ports, job, token)
        if row.completion is not None:
            if not hmac.compare_digest(row.completion, digest):
                raise Forbidden(f"job {job} was completed otherwise")
            if row.state in ("done", "failed"):
                return
        elif row.attempt != body.attempt or row.state not in ("queued", "running", "publishing"):
            raise Conflict(f"attempt {body.attempt} of job {job} is not the running one")
        asset = connection.execute(sa.select(assets).where(assets.c.id == row.asset)).one()
    if row.completion is None:
        if body.outcome == "failed":
            _accept_failure(ports, row, asset, body, digest)
        elif row.action == "ingest" and body.outcome == "ingested":
            wrong = _not_as_stated(row.inbox, body.files)
            if wrong is None:
                _accept_ingest(ports, row, asset, body, digest)
            else:
                _accept_failure(ports, row, asset, msgspec.structs.replace(body, reason=wrong), digest)
        elif row.action in _END and body.outcome == _END[row.action][0]:
            _accept_result(ports, row, asset, body, digest)
        else:
            raise Invalid(f"outcome {body.outcome[:50]!r} does not go with a job to {row.action}")
    finish(ports, job)


def fail(ports: Ports, job: str, reason: str) -> None:
    """End a job that the platform could not bring to an end; its result says so."""
    with ports.catalogue.reading() as connection:
        row = connection.execute(sa.select(jobs).where(jobs.c.id == job)).one()
        asset = connection.execute(sa.select(assets).where(assets.c.id == row.asset)).one()
    if row.completion is None and row.state not in ("done", "failed"):
        body = CompleteJob(attempt=row.attempt, outcome="failed", reason=reason)
        _accept_failure(ports, row, asset, body, sha256(msgspec.json.encode(body)).digest())
    finish(ports, job)


def finish(ports: Ports, job: str) -> None:
    """Journal an accepted completion and let its result be anchored; `sweep` repeats it after a crash."""
    with ports.catalogue.reading() as connection:
        row = connection.execute(sa.select(jobs).where(jobs.c.id == job)).one()
        asset = connection.execute(sa.select(assets).where(assets.c.id == row.asset)).one()
        if row.completion is None or row.state in ("done", "failed"):
            return
    if row.action == "ingest":
        if asset.state == State.REGISTERING:
            acknowledge(ports, asset)
        with ports.catalogue.transaction() as connection:
            ended = "failed" if asset.state == State.FAILED else "done"
            connection.execute(jobs.update().where(jobs.c.id == job).values(state=ended))
        return
    with ports.catalogue.transaction() as connection:
        lock_job(connection, job)
        state = connection.scalar(sa.select(jobs.c.state).where(jobs.c.id == job))
        if state in ("done", "failed"):
            return
        held = connection.execute(
            sa.select(files).where(files.c.asset == asset.id, files.c.part.in_(("result", "report")))
        ).all()
        journal.append(connection, ports, asset.id, "result", result_document(asset, held))
        end = State.FAILED if asset.outcome == FAILED else _END[row.action][1]
        connection.execute(assets.update().where(assets.c.id == asset.id).values(state=end))
        connection.execute(
            jobs.update().where(jobs.c.id == job).values(state="failed" if end == State.FAILED else "done")
        )
        connection.execute(stages.insert().values(asset=asset.id, stage=end, at=ports.clock.now(), detail=asset.reason))
        queue_result(connection, ports, asset)
        outbox.append(connection, events.RESULT_RECORDED, subject=asset.id, ports=ports)


def queue_result(connection: sa.Connection, ports: Ports, asset: Asset) -> None:
    """Ask anchor to write an asset's result, after the asset itself."""
    result = ledger_result(asset)
    connection.execute(
        writes.insert().values(
            asset=asset.id,
            action="result",
            entry={
                "id": result.id.hex(),
                "outcome": result.outcome,
                "commitment": result.commitment.hex(),
                "metadata_root": result.metadata_root.hex(),
                "provenance": result.provenance.hex(),
            },
            after=[asset.id],
            state="pending",
            created=ports.clock.now(),
        )
    )


def ledger_result(asset: Asset) -> Result:
    """The result of an asset as the ledger takes it."""
    return Result(
        id=bytes.fromhex(asset.id.replace("-", "")),
        outcome=asset.outcome,
        commitment=commitment(asset.result_salt, asset.result_root),
        metadata_root=Metadata.from_json(asset.result_metadata).root,
        provenance=asset.provenance,
    )


def result_document(asset: Asset, held: list[sa.Row[Any]] | Any) -> dict[str, Any]:
    """What the journal keeps of a result."""
    return {
        "outcome": asset.outcome,
        "reason": asset.reason,
        "salt": asset.result_salt.hex(),
        "content_root": asset.result_root.hex(),
        "metadata": asset.result_metadata,
        "run": asset.run,
        "provenance": asset.provenance.hex(),
        "files": files_document(held),
    }


def upload_of(row: sa.Row[Any]) -> str:
    """The upload of a job's attempt; a fenced attempt writes below another prefix."""
    return f"{row.id.replace('-', '')}{row.attempt:04d}"


def _accept_result(ports: Ports, row: sa.Row[Any], asset: Asset, body: CompleteJob, digest: bytes) -> None:
    if not body.files:
        raise Invalid("a completed job has at least one output file")
    _check_inputs(ports, row, asset, body.run)
    reports = collect(ports, asset.organisation, upload_of(row), manifest_of(body.report), {})
    _accept(ports, row, asset, body, digest, COMPLETED, _collected(ports, row, asset, body.files), reports)


def _accept_failure(ports: Ports, row: sa.Row[Any], asset: Asset, body: CompleteJob, digest: bytes) -> None:
    reason = body.reason.strip() or "the job gave no reason"
    if row.action == "ingest":
        with ports.catalogue.transaction() as connection:
            if _was_accepted(connection, row, body, digest):
                return
            connection.execute(assets.update().where(assets.c.id == asset.id).values(state=State.FAILED, reason=reason))
            now = ports.clock.now()
            connection.execute(stages.insert().values(asset=asset.id, stage=State.FAILED, at=now, detail=reason))
            connection.execute(jobs.update().where(jobs.c.id == row.id).values(completion=digest))
        return
    reports = collect(ports, asset.organisation, upload_of(row), manifest_of(body.report), {}) if body.report else []
    _accept(ports, row, asset, body, digest, FAILED, [], reports, reason)


def _accept_ingest(ports: Ports, row: sa.Row[Any], asset: Asset, body: CompleteJob, digest: bytes) -> None:
    listed = {item["path"] for item in row.inbox}
    if {file.path for file in body.files} != listed:
        raise Invalid("the ingested files are not those that were listed")

    def accept(connection: sa.Connection) -> None:
        _was_accepted(connection, row, body, digest)  # then it is frozen, and we are not called
        connection.execute(jobs.update().where(jobs.c.id == row.id).values(completion=digest))

    freeze(ports, asset.id, _collected(ports, row, asset, body.files), {}, accept)


def _not_as_stated(listed: Sequence[Mapping[str, Any]], found: Sequence[File]) -> str | None:
    """What is wrong where an object was announced with a hash. Of one in many parts the ingest checks sha256 itself."""
    stated = {item["path"]: item["hash"] for item in listed if "hash" in item}
    for file in found:
        hash = stated.get(file.path)
        comparable = hash is not None and (hash.partition(":")[0] == file.digest.partition(":")[0])
        if comparable and hash != file.digest:
            return f"{file.path} is {file.digest}, but {hash} was announced"
        if hash is not None and not comparable and hash.startswith("sha256-"):
            return f"{file.path} is {file.digest}, in another number of parts than {hash}, which was announced"
    return None


def _was_accepted(connection: sa.Connection, row: sa.Row[Any], body: CompleteJob, digest: bytes) -> bool:
    """In the transaction that accepts a completion: whether the same was meanwhile.

    Raises Forbidden if another was, Conflict if another attempt began.
    """
    lock_job(connection, row.id)
    current = connection.execute(sa.select(jobs).where(jobs.c.id == row.id)).one()
    if current.completion == digest:
        return True
    if current.completion is not None:
        raise Forbidden(f"job {row.id} was completed otherwise")
    if current.attempt != body.attempt:
        raise Conflict(f"attempt {body.attempt} of job {row.id} is not the running one")
    return False


def _accept(
    ports: Ports,
    row: sa.Row[Any],
    asset: Asset,
    body: CompleteJob,
    digest: bytes,
    outcome: int,
    results: list[Stored],
    reports: list[Stored],
    reason: str | None = None,
) -> None:
    """Freeze a result with its salts; what follows only reads it."""
    manifest = Manifest.of(item.entry for item in results)
    try:
        provenance = sha256(rfc8785.dumps(body.run)).digest()
    except rfc8785.CanonicalizationError as error:
        raise Invalid(f"the run record has no canonical JSON form: {error}") from error
    fields = {
        **body.metadata,
        "outcome": body.outcome,
        "files": len(manifest.entries),
        "bytes": manifest.size,
        **({"reason": reason} if reason else {}),
    }
    with ports.catalogue.transaction() as connection:
        if _was_accepted(connection, row, body, digest):
            return
        connection.execute(jobs.update().where(jobs.c.id == row.id).values(completion=digest, state="publishing"))
        connection.execute(
            assets.update()
            .where(assets.c.id == asset.id)
            .values(
                state=State.PUBLISHING,
                outcome=outcome,
                reason=reason,
                result_salt=ports.random.bytes(32),
                result_root=manifest.content_root,
                result_metadata=Metadata.seal(fields, ports.random.bytes).to_json(),
                run=body.run,
                provenance=provenance,
            )
        )
        write_files(connection, asset.id, "result", results)
        write_files(connection, asset.id, "report", reports)


def _collected(ports: Ports, row: sa.Row[Any], asset: Asset, listed: list[File]) -> list[Stored]:
    return collect(ports, asset.organisation, upload_of(row), manifest_of(listed), {})


def _check_inputs(ports: Ports, row: sa.Row[Any], asset: Asset, run: Mapping[str, Any]) -> None:
    """A result stands only on verified inputs: the run record must name each of them with its digest."""
    with ports.catalogue.reading() as connection:
        channels = _channels(connection, row, asset)
    inputs = [
        (name, Entry(item["path"], Digest.parse(item["digest"], item["size"])))
        for name, items in channels.items()
        for item in items
    ]
    try:
        told = run["predicate"]["buildDefinition"]["resolvedDependencies"]
        used = {item["name"]: item["digest"] for item in told}
    except (KeyError, TypeError) as error:
        raise Invalid("the run record does not name its inputs in resolvedDependencies") from error
    for wanted in dependencies_on(inputs):
        if used.get(wanted["name"]) != wanted["digest"]:
            raise Invalid(f"the run record does not say that input {wanted['name'][:200]!r} was verified")


def _may_start(connection: sa.Connection, row: sa.Row[Any], asset: Asset) -> bool:
    if row.action == "ingest":
        return bool(asset.state == State.UPLOADING)
    if asset.erased is not None or asset.state not in (State.QUEUED, State.RUNNING, State.PUBLISHING):
        return False
    above = connection.execute(
        sa.select(assets.c.anchored, assets.c.result_anchored, assets.c.kind)
        .join(parents, parents.c.parent == assets.c.id)
        .where(parents.c.asset == asset.id)
    )
    return all(
        parent.anchored is not None and (parent.kind != Kind.MODEL or parent.result_anchored is not None)
        for parent in above
    )


def _most_seconds(ports: Ports, asset: Asset) -> float:
    return float((asset.request or {}).get("limits", {}).get("wall_seconds", ports.settings.job_seconds))


def _erased_parent(connection: sa.Connection, asset: Asset) -> str | None:
    query = sa.select(assets.c.id).join(parents, parents.c.parent == assets.c.id)
    return connection.scalar(query.where(parents.c.asset == asset.id, assets.c.erased.is_not(None)))


def _channels(connection: sa.Connection, row: sa.Row[Any], asset: Asset) -> dict[str, list[dict[str, Any]]]:
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


def part_digests(ports: Ports, key: str) -> list[str]:
    """The part digests of a blob of more than one part, hexadecimal."""
    return list(msgspec.json.decode(ports.store().get(Bucket.BLOBS, parts_key(key))))


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


def _held(connection: sa.Connection, ports: Ports, job: str, token: str) -> sa.Row[Any]:
    """The job that the token is for; raises Unauthenticated, which does not tell whether there is such a job."""
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job)).first()
    given = sha256(token.encode()).digest()
    if row is None or row.token_hash is None or not hmac.compare_digest(row.token_hash, given):
        raise Unauthenticated("this token is not for this job and its running attempt")
    if row.deadline is not None and row.deadline < ports.clock.now():
        raise Unauthenticated("the job's token has expired")
    return row


def _authorised(connection: sa.Connection, ports: Ports, job: str, token: str, attempt: int | None) -> sa.Row[Any]:
    row = _held(connection, ports, job, token)
    if row.completion is not None or row.state not in ("queued", "running", "publishing"):
        raise Conflict(f"job {job} is over")
    if attempt is not None and attempt != row.attempt:
        raise Conflict(f"attempt {attempt} of job {job} is fenced by attempt {row.attempt}")
    return row
