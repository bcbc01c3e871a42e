"""What comes of jobs. A completion is accepted once; the same again is answered the same, another is refused."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import rfc8785
import sqlalchemy as sa

from polyshare import events
from polyshare.api import CompleteJob, File
from polyshare.assets import State
from polyshare.bootstrap import Ports
from polyshare.catalogue import outbox
from polyshare.catalogue.locks import lock_job
from polyshare.catalogue.tables import assets, files, jobs, stages, writes
from polyshare.errors import Conflict, Forbidden, Invalid
from polyshare.hashing import Digest
from polyshare.jobs.record import dependencies_on
from polyshare.ledger.record import COMPLETED, FAILED
from polyshare.manifest import Entry, Manifest, commitment
from polyshare.metadata import Metadata
from polyshare.operations import journal
from polyshare.operations.access import Asset
from polyshare.operations.documents import files_document
from polyshare.operations.jobs import channels_of, held, upload_of
from polyshare.operations.register import acknowledge, freeze, manifest_of, write_files
from polyshare.operations.uploads import Stored, collect
from polyshare.ports import Result

_END = {"train": ("trained", State.TRAINED), "translate": ("translated", State.TRANSLATED)}


def complete(ports: Ports, job: str, token: str, body: CompleteJob) -> None:
    """Accept what came of a job, once. Raises Conflict for missing outputs, Forbidden for another completion."""
    digest = sha256(msgspec.json.encode(msgspec.to_builtins(body))).digest()
    with ports.catalogue.reading() as connection:
        row = held(connection, ports, job, token)
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
        mine = sa.select(files).where(files.c.asset == asset.id, files.c.part.in_(("result", "report")))
        held = connection.execute(mine).mappings()
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


def result_document(asset: Asset, held: Iterable[Mapping[Any, Any]]) -> dict[str, Any]:
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
        channels = channels_of(connection, row, asset)
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
