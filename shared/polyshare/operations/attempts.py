"""Attempts at jobs: what is ready is handed to the runner, and again where the runner lost it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from polyshare.assets import Kind, State
from polyshare.bootstrap import Ports
from polyshare.catalogue.locks import lock_job
from polyshare.catalogue.tables import assets, jobs, parents, stages
from polyshare.jobs.job import Job
from polyshare.operations.access import Asset
from polyshare.operations.results import fail
from polyshare.tracing import going_on
from polyshare.urls import function_url

_log = logging.getLogger("polyshare")
ATTEMPTS = 3  # of the platform; a training that fails by its own fault is not tried again
_QUEUE_SECONDS = 7 * 86_400  # that a job may wait for its turn


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
    next_attempt = Job(
        id=job,
        attempt=row.attempt + 1,
        action=row.action,
        endpoint=function_url(ports.settings.functions_url, "complete_job"),
        token=token,
        deadline=deadline,
        requires={"environment": environment} if environment else {},
    )
    with going_on(row.traceparent):  # one event may have started jobs of many traces
        ports.runner().submit(next_attempt)
        told = {"asset": row.asset, "job": job, "attempt": row.attempt + 1, "action": row.action}
        _log.info("job handed to the runner", extra={"fields": told})
    return True


def _may_start(connection: sa.Connection, row: sa.Row[Any], asset: Asset) -> bool:
    if row.action == "ingest":
        return bool(asset.state == State.UPLOADING)
    if asset.erased is not None or asset.state not in (State.QUEUED, State.RUNNING, State.PUBLISHING):
        return False
    above = connection.execute(
        sa.select(assets.c.anchored, assets.c.result_anchored, assets.c.kind, assets.c.erased)
        .join(parents, parents.c.parent == assets.c.id)
        .where(parents.c.asset == asset.id)
    )
    return all(  # of an erased model a rebuild knows no result that could be anchored: the job starts, to fail
        parent.anchored is not None
        and (parent.kind != Kind.MODEL or parent.result_anchored is not None or parent.erased is not None)
        for parent in above
    )


def _most_seconds(ports: Ports, asset: Asset) -> float:
    return float((asset.request or {}).get("limits", {}).get("wall_seconds", ports.settings.job_seconds))


def _erased_parent(connection: sa.Connection, asset: Asset) -> str | None:
    query = sa.select(assets.c.id).join(parents, parents.c.parent == assets.c.id)
    return connection.scalar(query.where(parents.c.asset == asset.id, assets.c.erased.is_not(None)))
