"""The sandbox of a cluster: each run is a Kubernetes Job of its own that sees what is mounted for it from the claim."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from polyshare.errors import Invalid
from polyshare.jobs.follow import follow, keep_log, with_last_line
from polyshare.jobs.kubernetes import JOBS, Api
from polyshare.jobs.pod import GAPS, Cluster, Place, manifest
from polyshare.jobs.sandbox import Finished, Run, never, unheard


@dataclass(frozen=True, slots=True)
class ClusterSandbox:
    """See sandbox.Sandbox. What its runs mount must lie on the place's claim."""

    api: Callable[[], Api]
    prefix: str  # of its Jobs' names
    cluster: Cluster
    place: Place

    @property
    def name(self) -> str:
        return "kubernetes job"

    @property
    def gaps(self) -> tuple[str, ...]:
        return GAPS

    def run(
        self, run: Run, *, cancelled: Callable[[], bool] = never, on_log: Callable[[str], None] = unheard
    ) -> Finished:
        """See sandbox.Sandbox. Raises follow.Disrupted where the cluster took the run away."""
        if run.environment.image is None:
            raise Invalid(f"{run.environment.reference} has no image to run on a cluster")
        api = self.api()
        name = f"{self.prefix}-{secrets.token_hex(4)}"
        api.create(JOBS, manifest(run, name, self.cluster, self.place))
        ended = follow(api, name, run.limits, self.cluster.patience, cancelled=cancelled, on_log=on_log)
        last = keep_log(api, ended.pod, run.log, run.limits)
        return with_last_line(ended.finished, last)
