"""Following a run that is a Kubernetes Job: its log while it runs, and at its end why it ended, in words."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from polyshare.errors import Unavailable
from polyshare.jobs.job import Limits
from polyshare.jobs.kubernetes import EVENTS, JOBS, PODS, Api
from polyshare.jobs.log import Log
from polyshare.jobs.pod import CONTAINER, FIRST
from polyshare.jobs.sandbox import Finished, Status

_POLL, _SLOWEST_POLL = 1.0, 5.0  # seconds; the longer it takes, the less often it is asked for
_UNMADE = 180.0  # seconds within which the Job must be there
_SHOWN = 16 * 1024  # bytes of the log's tail
_UNPULLABLE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_HOPELESS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")


class Disrupted(Unavailable):
    """The cluster took the run away (evicted, drained, deleted): another attempt may do."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, on what machine, and which pod has its log."""

    finished: Finished
    pod: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"finished": asdict(self.finished), "pod": self.pod, "machine": dict(self.machine)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Ended:
        return cls(Finished(**document["finished"]), document["pod"], document["machine"])


def follow(
    api: Api,
    name: str,
    limits: Limits,
    patience: float,
    *,
    cancelled: Callable[[], bool],
    on_log: Callable[[str], None],
) -> Ended:
    """Wait for the end of Job `name`, holding it to its time. Raises Disrupted where it must be done again.

    While it can't start, `on_log` gets the reason; after `patience` seconds of that it has failed for it.
    """
    started = time.monotonic()
    answered = started
    seen = False
    while True:
        if cancelled():
            api.delete(JOBS, name)
            return Ended(Finished("cancelled", "it was cancelled", None, 0, 0, 0))
        try:
            job, pod = api.get(JOBS, name), _pod_of(api, name)
            seen = seen or job is not None
            if job is None and (seen or time.monotonic() - started > _UNMADE):
                what = "was deleted while it ran" if seen else "was not made: see step `run` of its workflow"
                raise Disrupted(f"the Job {name} {what}")
            ended = _ended(api, job, pod, limits)
            if ended is None and seen:
                ended = _hold(api, name, pod, limits, on_log, time.monotonic() - started > patience)
            if ended is not None:
                return ended
            answered = time.monotonic()
        except Disrupted:
            raise
        except Unavailable:
            if time.monotonic() - answered > patience:
                raise
        time.sleep(min(_SLOWEST_POLL, _POLL + (time.monotonic() - started) / 60))


def _hold(
    api: Api,
    name: str,
    pod: Mapping[str, Any] | None,
    limits: Limits,
    on_log: Callable[[str], None],
    impatient: bool,
) -> Ended | None:
    """Tell of a run that has not ended; end it when it can't start, or has had its time."""
    waiting = _waiting(api, name, pod)
    if waiting:
        on_log(f"waiting: {waiting}\n")
        if impatient or any(reason in waiting for reason in _HOPELESS):
            api.delete(JOBS, name)
            return Ended(Finished("failed", f"it could not be started: {waiting}", None, 0, 0, 0))
    elif pod is not None and (running := _state(pod).get("running")):
        if time.time() - _time(running["startedAt"]) > limits.wall_seconds:
            # The kubelet ends it as for its deadline: unlike a pod that is deleted, it keeps its log.
            api.patch(PODS, pod["metadata"]["name"], {"spec": {"activeDeadlineSeconds": 1}})
        on_log(_tail(api, pod["metadata"]["name"]))
    return None


def keep_log(api: Api, pod: str, path: Path, limits: Limits) -> str:
    """Write head and tail of what a run printed to `path`; returns its last line."""
    path.parent.mkdir(exist_ok=True)
    with Log(path, limits.log_bytes) as log:
        if pod:
            with api.log(pod, container=CONTAINER) as chunks:
                for chunk in chunks:
                    log.add(chunk)
        return log.last_line()


def with_last_line(finished: Finished, last: str) -> Finished:
    """Add what a failed run printed last to its reason."""
    if finished.status != "failed" or finished.exit_code is None:
        return finished
    reason = finished.reason + (f": {last}" if last else "; it printed nothing")
    if any(word in last.lower() for word in ("permission denied", "not permitted", "root")):
        reason += ". (Runs are never root: the image must work for any user, and write only where the contract says)"
    return Finished("failed", reason, finished.exit_code, finished.seconds, 0, 0)


def _ended(api: Api, job: Mapping[str, Any] | None, pod: Mapping[str, Any] | None, limits: Limits) -> Ended | None:
    """How it ended, None if it hasn't."""
    over = next((c for c in _conditions(job) if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)
    if pod is None:
        if over is not None:
            raise Disrupted(f"the run's pod is gone: {over.get('message') or over.get('reason')}")
        return None
    phase = pod["status"].get("phase")
    if phase not in ("Succeeded", "Failed"):
        if any(c["type"] == "DisruptionTarget" and c["status"] == "True" for c in _conditions(pod)):
            raise Disrupted(f"the run's pod is taken away: {_disruption(pod)}")
        return None
    name = pod["metadata"]["name"]
    first = _first(api, pod)
    machine = first if isinstance(first, dict) else {}
    done = _state(pod).get("terminated") or {}
    code = done.get("exitCode")
    seconds = _time(done["finishedAt"]) - _time(done["startedAt"]) if done.get("startedAt") else 0.0
    verdict: tuple[Status, str]
    if phase == "Succeeded":
        verdict = "done", ""
    elif isinstance(first, str):
        verdict = "failed", f"it could not be started: {first}"
        code = None
    else:
        verdict = _failure(pod, done, limits)
    return Ended(Finished(*verdict, code, seconds, 0.0, 0), name, machine)


def _failure(pod: Mapping[str, Any], done: Mapping[str, Any], limits: Limits) -> tuple[Status, str]:
    reason, message = pod["status"].get("reason"), str(pod["status"].get("message") or "")
    if reason == "DeadlineExceeded":
        wall = f"{limits.wall_seconds:.0f} s"
        return "time", f"it ran longer than its limit of {wall}: give it less to do or a higher limit"
    if reason == "Evicted" and "exceed" in message:  # a limit of its own, not the node's need
        return "disk", f"it wrote more than its limit of {limits.disk_bytes} bytes: {message.strip()}"
    if reason is not None or any(c["type"] == "DisruptionTarget" for c in _conditions(pod)):
        raise Disrupted(f"the run's pod was taken away: {_disruption(pod)}")
    if done.get("reason") == "OOMKilled":
        return "memory", f"it used all of its memory; the limit is {limits.memory_bytes} bytes"
    code = done.get("exitCode")
    said = str(done.get("message") or "").strip()
    if done.get("reason") in ("StartError", "ContainerCannotRun"):
        return "failed", f"its container could not be started: {said[:500]}"
    signal = f"signal {code - 128}" if isinstance(code, int) and 128 < code < 160 else f"exit code {code}"
    return "failed", f"it ended with {signal}"


def _waiting(api: Api, job: str, pod: Mapping[str, Any] | None) -> str:
    """Why it does not start; empty if it is about to, or has."""
    if pod is None:
        refused = _event(api, "Job", job, "FailedCreate")
        return f"the cluster refuses its pod: {refused}" if refused else ""
    unscheduled = next((c for c in _conditions(pod) if c["type"] == "PodScheduled" and c["status"] == "False"), None)
    if unscheduled is not None:
        return f"no node can take it: {unscheduled.get('message', '')}"
    for status in (*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())):
        state = status["state"].get("waiting") or {}
        if state.get("reason") in _UNPULLABLE:
            why = state.get("message") or _event(api, "Pod", pod["metadata"]["name"], "Failed")
            return f"image {status['image']} can't be pulled ({state['reason']}): {why}"[:1000]
        if state.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return f"{state['reason']}: {state.get('message', '')}"[:1000]
    return ""


def _pod_of(api: Api, job: str) -> dict[str, Any] | None:
    """The Job's pod; there is one at most, as it is never tried again within an attempt."""
    found = api.get(PODS, labelSelector=f"batch.kubernetes.io/job-name={job}") or {}
    return next(iter(found.get("items") or ()), None)


def _first(api: Api, pod: Mapping[str, Any]) -> dict[str, str] | str:
    """What the first container told of the machine; what it complained of, if it failed."""
    done = _state(pod, FIRST, "initContainerStatuses").get("terminated") or {}
    if not done:
        return {}
    with api.log(pod["metadata"]["name"], container=FIRST, limitBytes="65536") as chunks:
        lines = b"".join(chunks).decode(errors="replace").strip().splitlines()
    if done.get("exitCode"):
        return lines[-1][:500] if lines else f"its first container ended with {done.get('exitCode')}"
    return dict(json.loads(lines[-1])) if lines else {}


def _tail(api: Api, pod: str) -> str:
    with api.log(pod, container=CONTAINER, tailLines="200", limitBytes="262144") as chunks:
        return b"".join(chunks)[-_SHOWN:].decode(errors="replace")


def _event(api: Api, kind: str, name: str, reason: str) -> str:
    selector = f"involvedObject.kind={kind},involvedObject.name={name},reason={reason}"
    found = api.get(EVENTS, fieldSelector=selector) or {}
    return str(found["items"][-1].get("message", "")) if found.get("items") else ""


def _state(pod: Mapping[str, Any], container: str = CONTAINER, among: str = "containerStatuses") -> dict[str, Any]:
    found = [status for status in pod["status"].get(among, ()) if status["name"] == container]
    return dict(found[0].get("state") or {}) if found else {}


def _conditions(thing: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return list(((thing or {}).get("status") or {}).get("conditions") or ())


def _disruption(pod: Mapping[str, Any]) -> str:
    condition = next((c for c in _conditions(pod) if c["type"] == "DisruptionTarget"), {})
    status = pod["status"]
    return str(status.get("message") or condition.get("message") or status.get("reason") or "it was evicted").strip()


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
