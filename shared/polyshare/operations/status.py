"""How far an asset is, stage by stage."""

from __future__ import annotations

from contextlib import suppress

import sqlalchemy as sa

from polyshare.api import Stage, Status
from polyshare.assets import Caller, Kind, State
from polyshare.bootstrap import Ports
from polyshare.catalogue.tables import assets, files, jobs, parents, stages, writes
from polyshare.errors import Unavailable
from polyshare.operations.access import Asset, find

_ENDS = (State.REGISTERED, State.TRAINED, State.TRANSLATED, State.FAILED)


# Made once: SQLAlchemy takes as long to make a statement as to run it, and a status is asked for again and again.
_MINE: sa.BindParameter[str] = sa.bindparam("asset")
_STAGES = sa.select(stages).where(stages.c.asset == _MINE).order_by(stages.c.row)
_JOB = sa.select(jobs).where(jobs.c.asset == _MINE)
_TRANSLATION = (
    sa.select(assets.c.id)
    .join(parents, parents.c.asset == assets.c.id)
    .where(parents.c.parent == _MINE, assets.c.kind == Kind.TRANSLATION)
    .order_by(assets.c.created.desc())
    .limit(1)
)
_REJECTED = sa.select(writes.c.row).where(writes.c.asset == _MINE, writes.c.state == "rejected")
_REPORT = sa.select(files.c.path).where(files.c.asset == _MINE, files.c.part == "report").limit(1)


def status(ports: Ports, caller: Caller, reference: str) -> Status:
    """Raises NotFound."""
    with ports.catalogue.reading() as connection:
        asset = find(connection, caller, reference, ports.clock.now())
        mine = {"asset": asset.id}
        told = connection.execute(_STAGES, mine).all()
        job = connection.execute(_JOB, mine).first()
        translation = connection.scalar(_TRANSLATION, mine)
        rejected = connection.execute(_REJECTED, mine).first()
        report = connection.execute(_REPORT, mine).first()
    position = None
    if job is not None and job.state == "queued":
        with suppress(Unavailable):  # all else is known without the runner
            state = ports.runner().state(job.id)
            position = state.position if state is not None else None
    # Times come from several machines and the chain: told in order of their times, each row once.
    return Status(
        id=asset.id,
        kind=Kind(asset.kind).label,
        organisation=asset.organisation,
        name=asset.name,
        version=asset.version,
        state=asset.state,
        address=asset.address,
        anchored=asset.anchored is not None,
        result_anchored=asset.result_anchored is not None,
        finished=rejected is not None or _is_finished(asset),
        reason=asset.reason,
        report=report is not None,
        position=position,
        attempt=job.attempt if job is not None and job.attempt else None,
        revoked=asset.revoked is not None,
        erased=asset.erased is not None,
        stages=[Stage(row.stage, row.at, row.detail) for row in told],
        log_tail=job.log_tail if job is not None else "",
        translation=translation,
        cursor=told[-1].row if told else 0,
    )


def _is_finished(asset: Asset) -> bool:
    if asset.state not in _ENDS:
        return False
    if asset.state == State.FAILED and asset.record is None:
        return True
    return asset.anchored is not None and (asset.request is None or asset.result_anchored is not None)
