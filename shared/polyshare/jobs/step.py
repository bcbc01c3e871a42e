"""The steps of a job's workflow on a cluster: `python -m polyshare.jobs.step fetch|follow|publish|perform`.

A training is fetch → run beside follow → publish, so that it outlives each of our own pods; follow and publish may be
done again. An ingest, and a translation with its many small runs, is one step, `perform`. The job with its token comes
in a Secret; what passes between the steps lies on the workflow's claim, out of the run's sight.
Exit status: 0 go on; 3 this attempt is over, or told its failure; anything else: do this step again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from polyshare.errors import Unavailable
from polyshare.jobs import scratch, steps
from polyshare.jobs.cluster import ClusterSandbox
from polyshare.jobs.follow import Disrupted, Ended, follow, keep_log, with_last_lines
from polyshare.jobs.job import Job, Limits
from polyshare.jobs.kubernetes import JOBS, Access, Api
from polyshare.jobs.pod import Cluster, Place, dumps, manifest
from polyshare.jobs.remote import Remote
from polyshare.jobs.reporter import Reporter
from polyshare.jobs.sandbox import Prepared, unheard

OVER, AGAIN = 3, 75  # 75: EX_TEMPFAIL of sysexits.h
BUILDER = "urn:polyshare:runner:argo:1"
_log = logging.getLogger("polyshare.step")


def main() -> None:
    """Do one step."""
    parser = argparse.ArgumentParser(description="One step of a job's workflow.")
    parser.add_argument("step", choices=("fetch", "follow", "publish", "perform"))
    parser.add_argument("--limits", type=json.loads, help="what fetch left for follow")
    parser.add_argument("--ended", type=json.loads, help="what follow left for publish")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log presigned URLs
    os.umask(0o022)
    acts: dict[str, Callable[[Step], bool]] = {
        "fetch": Step.fetch,
        "follow": lambda step: step.follow(Limits.from_json(chosen.limits)),
        "publish": lambda step: step.publish(Ended.from_json(chosen.ended)),
        "perform": Step.perform,
    }
    try:
        with httpx.Client(trust_env=False) as client:
            counts = acts[chosen.step](Step(os.environ, client))
    except Disrupted as error:
        _log.error("%s: sweep starts another attempt", error.message)
        sys.exit(OVER)
    except Unavailable as error:
        _log.error("%s", error.message)
        sys.exit(AGAIN)
    sys.exit(0 if counts else OVER)


class Step:
    """One step of one workflow, from what its pod is given. Argo takes output parameters from `out`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        client: httpx.Client,
        *,
        api: Callable[[], Api] = lambda: Api(Access.of()),
        root: Path = Path("/job"),
        out: Path = Path("/tmp"),  # noqa: S108
    ) -> None:
        self._client, self._api, self._root, self._out = client, api, root, out
        self._job = Job(**json.loads(Path(environ["POLYSHARE_JOB"]).read_bytes()))
        self._cluster = Cluster(**json.loads(environ["POLYSHARE_CLUSTER"]))
        workflow = environ["POLYSHARE_WORKFLOW"]
        self._run = f"{workflow}-run"
        owner = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "name": workflow,
            "uid": environ["POLYSHARE_WORKFLOW_UID"],
            "controller": True,
        }
        labels = {"polyshare.job": self._job.id}
        self._where = Place(self._root, f"{workflow}-work", owner, labels, environ.get("POLYSHARE_NODE", ""))

    def fetch(self) -> bool:
        """Bring and verify the inputs; leaves the run's Job and limits as output parameters."""
        place = self._place(fresh=True)
        fetched = steps.fetch(self._job, self._client, place)
        if fetched is None:
            return False
        state = {"document": fetched.document, "begun": fetched.begun}
        (self._root / "state.json").write_text(json.dumps(state))
        (self._out / "run.json").write_text(dumps(manifest(fetched.run, self._run, self._cluster, self._where)))
        (self._out / "limits.json").write_text(json.dumps(fetched.run.limits.to_json()))
        return True

    def follow(self, limits: Limits) -> bool:
        """Tell of the run until it has ended; leaves how as an output parameter."""
        with Reporter(Remote(self._job, self._client)) as reporter:
            reporter.stage("running")
            ended = follow(
                self._api(),
                self._run,
                limits,
                self._cluster.patience,
                cancelled=reporter.fenced.is_set,
                on_log=reporter.say,
            )
        (self._out / "ended.json").write_text(dumps(ended.to_json()))
        return ended.finished.status != "cancelled"

    def publish(self, ended: Ended) -> bool:
        """Tell what came of the run."""
        state = json.loads((self._root / "state.json").read_bytes())
        place = self._place()
        limits = Limits.from_json(state["document"].get("limits") or {})
        last = keep_log(self._api(), ended.pod, steps.log_path(place.work), limits)
        machine = dict(ended.machine)
        if self._cluster.gpus:
            machine |= {"accelerator": self._cluster.gpu_resource, "driver": "unknown"}
        finished = with_last_lines(ended.finished, last)
        return steps.publish(self._job, self._client, place, state["document"], state["begun"], finished, machine)

    def perform(self) -> bool:
        """Do the whole job here, its runs in Jobs of their own."""
        if (self._root / "work").exists():  # this step's pod was lost: so are its runs
            self._api().delete(JOBS, labelSelector=f"polyshare.job={self._job.id}")
        steps.perform(self._job, self._client, self._place(fresh=True))
        return True

    def _place(self, *, fresh: bool = False) -> steps.Place:
        work = self._root / "work"
        if fresh and work.exists():
            scratch.remove(work)
        work.mkdir(exist_ok=True)

        def sandbox(_reference: str) -> ClusterSandbox:
            return ClusterSandbox(self._api, self._run, self._cluster, self._where)

        # A second pod may find no room on the node of the first, where the claim is: runs take turns.
        return steps.Place(work, work, sandbox=sandbox, prepare=self._prepare, builder=BUILDER, beside=False)

    def _prepare(self, reference: str, _cache: Path, _progress: Callable[[str], None] = unheard) -> Prepared:
        return self._cluster.prepare(reference)


if __name__ == "__main__":
    main()
