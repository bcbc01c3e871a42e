"""The runner's fake: real protocol and real bytes, in memory, one job at a time when it is told to.

Training is a hash of what it was given, so the same inputs give the same outputs and others give others. A parameter
`fail` makes it fail with that reason. An exception of the line passes through and leaves the job in the queue, as a
crash would.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from polyshare.errors import Conflict, Mismatch, PolyshareError
from polyshare.hashing import Digest, part_count, part_range
from polyshare.jobs.job import Job, Limits, RunnerState, RunState
from polyshare.jobs.record import Record
from polyshare.manifest import Entry

_STOP = (401, 403, 404, 409, 410)


class Line(Protocol):
    """How the fake reaches complete_job and the store."""

    def post(self, path: str, token: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """POST to `{endpoint}/{path}`: HTTP status and JSON answer."""
        ...

    def get(self, url: str, headers: Mapping[str, str]) -> bytes | None:
        """The object's bytes; None when If-Match does not hold or it is gone."""
        ...

    def put(self, url: str, headers: Mapping[str, str], data: bytes) -> None: ...


class FakeRunner:
    """See job.Runner. `queue` is what survives a crash: give it to the next one."""

    def __init__(self, line: Line, now: Callable[[], float], queue: dict[tuple[str, int], Job] | None = None) -> None:
        self._line = line
        self._now = now
        self.queue: dict[tuple[str, int], Job] = {} if queue is None else queue
        self._running: tuple[str, int] | None = None

    def submit(self, job: Job) -> None:
        self.queue.setdefault((job.id, job.attempt), job)

    def cancel(self, job_id: str) -> None:
        for key in [key for key in self.queue if key[0] == job_id]:
            del self.queue[key]

    def state(self, job_id: str) -> RunnerState | None:
        keys = [key for key in self.queue if key[0] == job_id]
        if not keys:
            return None
        newest = max(keys, key=lambda key: key[1])
        if newest == self._running:
            return RunnerState(RunState.RUNNING)
        waiting = [key for key in self.queue if key != self._running]
        return RunnerState(RunState.QUEUED, waiting.index(newest) + 1)

    def run_next(self) -> bool:
        """Do the first job in the queue to its end; False if there is none."""
        while self.queue:
            key, job = next(iter(self.queue.items()))
            newer = any(other[0] == key[0] and other[1] > key[1] for other in self.queue)
            if not newer and self._now() <= job.deadline:
                break
            del self.queue[key]
        else:
            return False
        self._running = key
        try:
            self._perform(job)
        finally:
            self._running = None
        self.queue.pop(key, None)
        return True

    def _perform(self, job: Job) -> None:
        document = self._post(job, "start", {"attempt": job.attempt})
        if document is None:
            return
        record = Record(job.id, job.attempt, job.action, "urn:polyshare:runner:fake:1", started=self._now())
        record.limits, record.asset = Limits.from_json(document.get("limits") or {}), str(document.get("asset") or "")
        record.parameters = dict(document.get("parameters") or {})
        record.environment = str(document.get("environment") or "")
        reason, outputs = "", {}
        try:
            inputs = self._fetch(job, document, record)
            if inputs is None or self._post(job, "progress", _progress(job, "running")) is None:
                return
            outputs = perform(job.action, record.parameters, inputs)
        except PolyshareError as error:
            reason = error.message
        entries = [entry_of(path, data) for path, data in sorted(outputs.items(), key=lambda item: item[0].encode())]
        for entry in entries:
            if not self._publish(job, entry, outputs[entry.path]):
                return
        outcome = {"ingest": "ingested", "train": "trained", "translate": "translated"}[job.action]
        completion = {
            "attempt": job.attempt,
            "outcome": "failed" if reason else outcome,
            "reason": reason,
            "files": [entry.to_json() for entry in entries],
            "report": [],
            "metadata": {"framework": record.parameters.get("framework", "fake")}
            if job.action == "train" and not reason
            else {},
            "run": record.statement(entries, now=self._now()),
        }
        self._post(job, "complete", completion)

    def _fetch(self, job: Job, document: Mapping[str, Any], record: Record) -> dict[str, bytes] | None:
        found: dict[str, bytes] = {}
        for channel, items in (document.get("channels") or {}).items():
            for item in items:
                asked = {"files": [{"channel": channel, "path": item["path"]}]}
                answer = self._post(job, "inputs", asked)
                if answer is None:
                    return None
                url = answer["urls"][0]
                name = f"{channel}/{item['path']}"
                data = self._line.get(url["url"], url.get("headers") or {})
                if data is None:
                    raise Conflict(f"object changed while it was read: {item['path']}")
                if "digest" in item:
                    entry = Entry.from_json({key: item.get(key) for key in ("path", "size", "digest", "parts")})
                    if entry_of(entry.path, data) != entry:
                        raise Mismatch(f"input {name} is not what was registered")
                    record.inputs.append((channel, entry))
                found[name] = data
        return found

    def _publish(self, job: Job, entry: Entry, data: bytes) -> bool:
        for part in range(1, part_count(entry.size) + 1):
            start, length = part_range(entry.size, part)
            piece = data[start : start + length]
            asked = {"path": entry.path, "size": entry.size, "part": part, "sha256": hashlib.sha256(piece).hexdigest()}
            answer = self._post(job, "outputs", {"parts": [asked]})
            if answer is None:
                return False
            signed = answer["urls"][0]
            if signed is not None:
                self._line.put(signed["url"], signed.get("headers") or {}, piece)
        return True

    def _post(self, job: Job, what: str, body: Mapping[str, Any]) -> Any:
        """The answer, or None when this attempt counts no more. Raises Conflict on what should not happen."""
        status, answer = self._line.post(f"{job.id}/{what}", job.token, body)
        if status in _STOP:
            return None
        if status >= 300:
            raise ConnectionError(f"{what} was answered {status}: {str(answer)[:200]}")
        return answer if answer is not None else {}


def perform(action: str, parameters: Mapping[str, Any], inputs: Mapping[str, bytes]) -> dict[str, bytes]:
    """What a job makes of its inputs (`<channel>/<path>` → bytes): a pure function. Raises Conflict told to `fail`."""
    if "fail" in parameters:
        raise Conflict(f"the training failed: {parameters['fail']}")
    if action == "ingest":
        return {name.partition("/")[2]: data for name, data in inputs.items()}
    state = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode())
    for name in sorted(inputs):
        state.update(name.encode() + b"\0" + hashlib.sha256(inputs[name]).digest())
    if action == "train":
        return {"model.bin": state.digest(), "signature.json": b'{"framework":"fake"}'}
    return {"model.onnx": b"onnx" + state.digest(), "certificate.json": b'{"verdict":"agrees"}'}


def entry_of(path: str, data: bytes) -> Entry:
    """The manifest entry of bytes held in memory."""
    parts = []
    for part in range(1, part_count(len(data)) + 1):
        start, length = part_range(len(data), part)
        parts.append(hashlib.sha256(data[start : start + length]).digest())
    return Entry(path, Digest.of_parts(len(data), parts), tuple(parts) if len(parts) > 1 else ())


def _progress(job: Job, stage: str) -> dict[str, Any]:
    return {"attempt": job.attempt, "stage": stage, "log_tail": ""}
