"""One history: drawn from its seed, played to its end, and checked."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tests.simulation.actors import Told, actors
from tests.simulation.cluster import UPLOAD_SECONDS, Cluster
from tests.simulation.invariants import Checked, essence, unrest

LONGEST = 3600.0  # simulated seconds until it must be quiet after the last fault
_TOO_MANY_TURNS = 400_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a history: no problems, if all holds."""

    seed: int
    problems: list[str]
    trace: list[str]
    assets: int
    turns: int
    was_lost: int


def play(
    seed: int,
    *,
    bug: Callable[[Cluster], AbstractContextManager[None]] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Outcome:
    """Play the history of a seed; with `bug`, a product that has it. `tell` hears each line of the trace at once."""
    lines: list[str] = []

    def trace(line: str) -> None:
        lines.append(line)
        if tell is not None:
            tell(line)

    logging.getLogger("polyshare").setLevel(logging.CRITICAL)
    cluster = Cluster(seed, trace=trace)
    told = Told()
    with bug(cluster) if bug is not None else nullcontext():
        gc.disable()  # a tenth of the time, and little is left to collect
        try:
            problems = _play(cluster, told, with_rebuild=seed % 4 == 0 or bug is not None)
        finally:
            cluster.scheduler.stop()
            gc.enable()
    return Outcome(seed, problems, lines, len(told.assets), cluster.scheduler.turns, cluster.database.epoch)


def _play(cluster: Cluster, told: Told, *, with_rebuild: bool) -> list[str]:
    scheduler, random = cluster.scheduler, cluster.random
    cluster.start()
    busy = [scheduler.spawn(f"actor {number}", work) for number, work in enumerate(actors(cluster, told))]
    if random.random() < 0.25:
        delay = random.random() * 60
        busy.append(scheduler.spawn("loss", lambda: (scheduler.sleep(delay), cluster.lose_database())))
    scheduler.run(lambda: all(task.done for task in busy) or scheduler.turns > _TOO_MANY_TURNS)
    for task in busy:
        if task.error is not None:
            raise task.error
    quiet_at = cluster.clock.now() + random.choice((0.0, 10.0, 40.0))  # faults go on, for the jobs that follow
    pause = scheduler.spawn("pause", lambda: scheduler.sleep(quiet_at - cluster.clock.now()))
    scheduler.run(lambda: pause.done)
    cluster.trace("no more faults")
    cluster.end_faults()
    deadline = cluster.clock.now() + UPLOAD_SECONDS + LONGEST
    left: list[str] = ["not looked yet"]

    def watch() -> None:
        scheduler.sleep(70.0)
        while left and cluster.clock.now() < deadline:
            with cluster.database.held(), cluster.database.catalogue.reading() as connection:
                left[:] = unrest(connection)
            if left:
                scheduler.sleep(30.0)

    watching = scheduler.spawn("watch", watch)
    scheduler.run(lambda: watching.done or scheduler.turns > _TOO_MANY_TURNS)
    scheduler.stop()
    if left:
        return [*cluster.unexpected, *told.wrongs, *(f"never quiet: {what}" for what in left)]
    problems = list(Checked(cluster, told).problems())
    return problems or (_rebuild(cluster, told) if with_rebuild else [])


def _rebuild(cluster: Cluster, told: Told) -> list[str]:
    """A rebuild of the quiet catalogue gives the same, but for what was asked for and never answered."""
    before = essence(cluster)
    loss = cluster.scheduler.spawn("rebuild at the end", cluster.lose_database)
    cluster.scheduler.run(lambda: loss.done)
    if loss.error is not None:
        return [f"the rebuild at the end failed: {loss.error!r}"]
    after = essence(cluster)
    problems = [f"rebuild: {asset} is gone" for asset in before.keys() - after.keys()]
    problems += [f"rebuild: {asset} came from nowhere" for asset in after.keys() - before.keys()]
    for asset in before.keys() & after.keys():
        known = told.assets.get(asset)
        if known is not None and known.erasing and not known.erased:
            continue
        unsure = ("revoked", "revocation_reason") if known is not None and known.revoking else ()
        problems += [
            f"rebuild: {name} of {asset} was {value}, is {after[asset][name]}"
            for name, value in before[asset].items()
            if name not in unsure and after[asset][name] != value
        ]
    return problems + [f"after the rebuild: {problem}" for problem in Checked(cluster, told).access()]
