"""The function complete_job and the store, as a job's steps see them: over HTTP, with the job's token."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from polyshare.errors import Conflict, Invalid, Mismatch, Unavailable
from polyshare.jobs.job import Job
from polyshare.jobs.sandbox import never

MOST_URLS = 500  # asked for at once
_TIMEOUT = httpx.Timeout(30, read=120, write=120)
_PATIENCE = 90.0  # seconds of trying again, before the whole attempt is put back in the queue
_STOP = (401, 403, 404, 409, 410)


class Fenced(Conflict):
    """This attempt counts no more: finished, cancelled, or another one has its place. The steps stop quietly."""


@dataclass(frozen=True, slots=True)
class Signed:
    url: str
    headers: Mapping[str, str]

    @classmethod
    def from_json(cls, item: Any) -> Signed | None:
        """Read {url, headers}, a bare URL, or null."""
        if item is None:
            return None
        if isinstance(item, str):
            return cls(item, {})
        return cls(str(item["url"]), {str(k): str(v) for k, v in (item.get("headers") or {}).items()})


class Remote:
    """One attempt's line to complete_job. All may be asked again; raises Unavailable after 90 s of trying."""

    def __init__(self, job: Job, client: httpx.Client, *, cancelled: Callable[[], bool] = never) -> None:
        self._job = job
        self._client = client
        self._cancelled = cancelled
        self._trace: dict[str, str] = {}

    def start(self) -> dict[str, Any]:
        """The job document."""
        document = self._post("start", {"attempt": self._job.attempt})
        if not isinstance(document, dict):
            raise Unavailable("complete_job answered start without a job document")
        if document.get("traceparent"):
            self._trace = {"traceparent": str(document["traceparent"])}
        return document

    def progress(self, stage: str, log_tail: str) -> None:
        """Tell how far it is; raises Fenced when the job was cancelled."""
        self._post("progress", {"attempt": self._job.attempt, "stage": stage, "log_tail": log_tail}, patience=0)

    def inputs(self, files: Sequence[tuple[str, str]]) -> list[Signed]:
        """GETs of (channel, path), good for a short while."""
        asked = {"files": [{"channel": channel, "path": path} for channel, path in files]}
        return [signed for signed in self._signed("inputs", asked, len(files)) if signed is not None]

    def outputs(self, parts: Sequence[Mapping[str, Any]]) -> list[Signed | None]:
        """PUTs of {path, size, part, sha256}; None where the store has the part."""
        return self._signed("outputs", {"parts": list(parts)}, len(parts))

    def complete(self, completion: Mapping[str, Any]) -> None:
        """Tell the outcome, once; the same again is fine."""
        self._post("complete", {"attempt": self._job.attempt, **completion})

    def read(self, signed: Signed, start: int, length: int, size: int, what: str) -> bytes:
        """Bytes of an object; raises Conflict if it changed or is gone, Unavailable when the URL serves no more."""
        headers = dict(signed.headers)
        if (start, length) != (0, size):
            headers["Range"] = f"bytes={start}-{start + length - 1}"
        with self._client.stream("GET", signed.url, headers=headers, timeout=_TIMEOUT) as answer:
            if answer.status_code == 412:
                raise Conflict(f"object changed while it was read: {what}")
            if answer.status_code == 404:
                raise Conflict(f"object is gone: {what}")
            if answer.status_code not in (200, 206):
                raise Unavailable(f"the store answered {answer.status_code} for {what}")
            data = bytearray()
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > length:
                    raise Mismatch(f"{what} is longer than the {size} bytes it should have")
        if len(data) != length:
            raise Unavailable(f"the store cut {what} short")
        return bytes(data)

    def write(self, signed: Signed, data: bytes, what: str) -> None:
        """PUT a part; the store checks its digest, which is signed."""
        answer = self._client.put(signed.url, content=data, headers=dict(signed.headers), timeout=_TIMEOUT)
        if answer.status_code not in (200, 201, 204, 412):  # 412: another attempt has put the same bytes there
            raise Unavailable(f"the store answered {answer.status_code} to a part of {what}")

    def patiently(self, act: Callable[[], Any]) -> Any:
        """Do something with the store, again after a pause while it does not answer."""
        until = time.monotonic() + _PATIENCE
        pause = 0.5
        while True:
            try:
                return act()
            except (Unavailable, httpx.TransportError) as error:
                if time.monotonic() + pause > until or time.time() > self._job.deadline:
                    raise Unavailable(f"the store does not answer: {error}") from error
            self._sleep(pause)
            pause = min(pause * 2, 8)

    def _signed(self, what: str, asked: Mapping[str, Any], count: int) -> list[Signed | None]:
        answer = self._post(what, asked)
        urls = answer.get("urls") if isinstance(answer, dict) else None
        if not isinstance(urls, list) or len(urls) != count:
            raise Unavailable(f"complete_job answered {what} with another number of URLs than asked for")
        return [Signed.from_json(item) for item in urls]

    def _post(self, what: str, body: Mapping[str, Any], *, patience: float = _PATIENCE) -> Any:
        url = f"{self._job.endpoint.rstrip('/')}/{self._job.id}/{what}"
        headers = {"Authorization": f"Bearer {self._job.token}", **self._trace}
        until = min(time.monotonic() + patience, time.monotonic() + self._job.deadline - time.time())
        pause = 0.5
        while True:
            try:
                answer = self._client.post(url, json=body, headers=headers, timeout=_TIMEOUT)
            except httpx.TransportError as error:
                said: str = f"{type(error).__name__}: {error}"
            else:
                if answer.is_success:
                    return answer.json() if answer.content else None
                if answer.status_code in _STOP:
                    raise Fenced(f"{what} of job {self._job.id}: {_detail(answer)}")
                if answer.status_code < 500 and answer.status_code not in (408, 425, 429):
                    raise Invalid(f"{what} was refused ({answer.status_code}): {_detail(answer)}")
                said = f"{answer.status_code} {_detail(answer)}"
            if time.monotonic() + pause > until:
                raise Unavailable(f"complete_job does not take {what} of job {self._job.id}: {said}")
            self._sleep(pause)
            pause = min(pause * 2, 8)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._cancelled():
                raise Fenced(f"job {self._job.id} was cancelled")
            time.sleep(min(left, 0.2))


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("detail") or answer.json().get("title"))[:500]
    except (ValueError, AttributeError):
        return answer.text[:200]
