"""The runner of a cluster: a job's attempt is an Argo workflow of the template for its action (infra/workflows).

Its name is made of job and attempt, so the API server itself refuses a second one. The job, with its token, lies in a
Secret of the same name that belongs to the workflow and goes with it.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from polyshare.errors import Conflict, Invalid
from polyshare.jobs.job import Job, RunnerState, RunState
from polyshare.jobs.kubernetes import SECRETS, WORKFLOWS, Api

_JOB, _ATTEMPT, _SUBMITTED = "polyshare.job", "polyshare.attempt", "polyshare.submitted"
_PHASE = "workflows.argoproj.io/phase"  # a label that Argo keeps
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?")  # so that name, attempt and Argo's suffix fit a label
_OVER = ("Succeeded", "Failed", "Error")


class ArgoRunner:
    """See job.Runner. Raises Unavailable when the API server can't be reached, or refuses what it is asked."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def submit(self, job: Job) -> None:
        """See job.Runner. The attempts before are taken away. Raises Invalid for an id that can't be a name."""
        name = f"{_checked(job.id)}-{int(job.attempt)}"
        if job.attempt > 1:
            self._delete(f"{_JOB}={job.id},{_ATTEMPT}!={int(job.attempt)}")
        labels = {_JOB: job.id, _ATTEMPT: str(int(job.attempt))}
        document = json.dumps({**asdict(job), "requires": dict(job.requires)})
        secret = {"metadata": {"name": name, "labels": labels}, "stringData": {"job": document}}
        with suppress(Conflict):  # submitted before, or died between one step and the next
            self._api.create(SECRETS, secret)
        try:
            made = self._api.create(WORKFLOWS, _workflow(name, labels, job))
        except Conflict:
            made = self._api.get(WORKFLOWS, name) or {}
        if made:
            owner = {key: made[key] for key in ("apiVersion", "kind")} | {
                key: made["metadata"][key] for key in ("name", "uid")
            }
            self._api.patch(SECRETS, name, {"metadata": {"ownerReferences": [owner]}})

    def cancel(self, job_id: str) -> None:
        """See job.Runner."""
        self._delete(f"{_JOB}={_checked(job_id)}")

    def state(self, job_id: str) -> RunnerState | None:
        """See job.Runner. A workflow that is over is gone, until Argo removes it after its TTL."""
        mine = self._list(f"{_JOB}={_checked(job_id)}")
        if not mine:
            return None
        newest = max(mine, key=lambda item: int(item["labels"][_ATTEMPT]))
        phase = newest["labels"].get(_PHASE, "Pending")
        if phase in _OVER:
            return RunnerState(RunState.GONE, detail=self._said(newest["name"]) if phase != "Succeeded" else "")
        if phase == "Running":
            return RunnerState(RunState.RUNNING)
        waiting = self._list(f"{_JOB},{_PHASE} notin (Running,{','.join(_OVER)})")
        ahead = [item for item in waiting if _order(item) < _order(newest)]
        return RunnerState(RunState.QUEUED, len(ahead) + 1)

    def _said(self, name: str) -> str:
        """Why a workflow ended badly: what the first of its pods that did says, else it itself."""
        status = (self._api.get(WORKFLOWS, name) or {}).get("status") or {}
        nodes = sorted((status.get("nodes") or {}).values(), key=lambda node: str(node.get("finishedAt")))
        pods = [node for node in nodes if node.get("type") == "Pod" and node.get("phase") in ("Failed", "Error")]
        messages = [str(node["message"]) for node in pods if node.get("message")] + [str(status.get("message") or "")]
        return " ".join(messages[0].split())[:500]

    def _list(self, selector: str) -> list[dict[str, Any]]:
        """The metadata of workflows that are not on their way out."""
        found = self._api.get(WORKFLOWS, metadata=True, labelSelector=selector) or {}
        return [item["metadata"] for item in found.get("items", ()) if "deletionTimestamp" not in item["metadata"]]

    def _delete(self, selector: str) -> None:
        self._api.delete(WORKFLOWS, labelSelector=selector)
        self._api.delete(SECRETS, labelSelector=selector)


def _workflow(name: str, labels: dict[str, str], job: Job) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "workflowTemplateRef": {"name": f"polyshare-{job.action}"},
        "podMetadata": {"labels": labels},
        "activeDeadlineSeconds": max(1, int(job.deadline - time.time())),
    }
    if "gpu" in job.requires:
        spec["arguments"] = {"parameters": [{"name": "gpus", "value": str(int(job.requires["gpu"]))}]}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": name, "labels": labels, "annotations": {_SUBMITTED: f"{time.time_ns():020}"}},
        "spec": spec,
    }


def _order(item: dict[str, Any]) -> tuple[str, str]:
    """Creation times have whole seconds only."""
    return item.get("annotations", {}).get(_SUBMITTED, ""), item["name"]


def _checked(job_id: str) -> str:
    if not _ID.fullmatch(job_id):
        raise Invalid(f"{job_id[:100]!r} is not a job's id")
    return job_id
