"""Events between the functions: CloudEvents 1.0, and the one table that says which function takes which.

On Knative the table becomes Triggers; embedded, `HttpBus` posts straight to the functions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from polyshare.errors import Invalid

SOURCE = "polyshare"

ASSET_REGISTERED = "polyshare.asset.registered"
ASSET_ANCHORED = "polyshare.asset.anchored"
RESULT_RECORDED = "polyshare.result.recorded"
RESULT_ANCHORED = "polyshare.result.anchored"
ASSET_REVOKED = "polyshare.asset.revoked"
REVOCATION_ANCHORED = "polyshare.revocation.anchored"
JOB_READY = "polyshare.job.ready"
INBOX_CHANGED = "polyshare.inbox.changed"
SWEEP_DUE = "polyshare.sweep.due"

ROUTES: Mapping[str, tuple[str, ...]] = {
    ASSET_REGISTERED: ("anchor",),
    ASSET_ANCHORED: ("run_job",),
    RESULT_RECORDED: ("anchor",),
    RESULT_ANCHORED: ("translate",),
    ASSET_REVOKED: ("anchor",),
    REVOCATION_ANCHORED: (),
    JOB_READY: ("run_job",),
    INBOX_CHANGED: ("register_dataset",),
    SWEEP_DUE: ("sweep",),
}


WOKEN = frozenset({"anchor"})  # functions that an event only wakes: one does for many


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent; (source, id) says which it is, however often it arrives."""

    type: str
    id: str
    subject: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    source: str = SOURCE
    time: float = 0.0  # Unix seconds
    traceparent: str = ""  # W3C; CloudEvents' extension for distributed tracing

    @property
    def assets(self) -> list[str]:
        """The assets that it is about: one transaction on the ledger is one event of many."""
        listed = self.data.get("assets", [self.subject])
        if not isinstance(listed, list) or not all(isinstance(asset, str) for asset in listed):
            raise Invalid("the event's data.assets is not a list of ids")
        return listed

    def structured(self) -> tuple[dict[str, str], bytes]:
        """Headers and body of the event in CloudEvents' structured mode."""
        document = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": datetime.fromtimestamp(self.time, UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": dict(self.data),
        }
        if not self.subject:
            del document["subject"]
        headers = {"content-type": "application/cloudevents+json"}
        if self.traceparent:
            document["traceparent"] = headers["traceparent"] = self.traceparent
        return headers, json.dumps(document).encode()


def is_event(headers: Mapping[str, str]) -> bool:
    """Whether an HTTP request carries a CloudEvent, in binary or structured mode. Header names in lower case."""
    return "ce-id" in headers or headers.get("content-type", "").startswith("application/cloudevents")


def parse(headers: Mapping[str, str], body: bytes) -> Event:
    """Read a CloudEvent in binary or structured mode; raises Invalid."""
    from cloudevents.exceptions import GenericException
    from cloudevents.http import from_http

    try:
        event = from_http(dict(headers), body)
    except (GenericException, ValueError, TypeError, RecursionError) as error:
        raise Invalid(f"this is not a CloudEvent: {error}") from error
    data = event.data
    if isinstance(data, bytes | str):
        try:
            data = json.loads(b"{}" if data == b"" else data)
        except (ValueError, RecursionError) as error:
            raise Invalid("the event's data is not JSON") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise Invalid("the event's data is not a JSON object")
    for name in ("type", "id", "source", "subject"):
        value = event.get(name)
        if not (value or name == "subject") or not isinstance(value, str | None) or "\0" in (value or ""):
            raise Invalid(f"the event's {name} is missing, is not text, or has a NUL character in it")
    return Event(
        type=str(event["type"])[:255],
        id=str(event["id"])[:255],
        subject=str(event.get("subject") or "")[:1024],
        source=str(event["source"])[:255],
        data=data,
        traceparent=str(event.get("traceparent") or ""),
    )


class HttpBus:
    """Posts events to the functions that take them, under the URL template; senders count 2xx as taken.

    A refusal that can't change (400, 403, 422) also ends it: the function has logged why. Anything else is retried.
    """

    def __init__(self, url: str, token: Callable[[], str], *, timeout: float = 60.0) -> None:
        self._url, self._token, self._timeout = url, token, timeout
        self._client: Any = None

    def publish(self, sent: Sequence[Event]) -> list[bool]:
        import httpx

        if self._client is None:
            self._client = httpx.Client(timeout=self._timeout, trust_env=False)
        posts = {_post_of(event, function): (function, event) for event in sent for function in _takers(event)}
        if len(posts) == 1:
            taken = {key: self._post(*post) for key, post in posts.items()}
        else:
            with ThreadPoolExecutor(8, thread_name_prefix="bus") as pool:
                taken = dict(zip(posts, pool.map(lambda post: self._post(*post), posts.values()), strict=True))
        return [all(taken[_post_of(event, function)] for function in _takers(event)) for event in sent]

    def _post(self, function: str, event: Event) -> bool:
        import httpx

        headers, body = event.structured()
        headers["authorization"] = f"Bearer {self._token()}"
        try:
            url = self._url.format(function=function)
            status = self._client.post(url, headers=headers, content=body).status_code
        except httpx.HTTPError:
            return False
        return 200 <= status < 300 or status in (400, 403, 422)


def _takers(event: Event) -> tuple[str, ...]:
    return ROUTES.get(event.type, ())


def _post_of(event: Event, function: str) -> tuple[str, str]:
    """What tells one request from another: of the events of one batch, a function that is only woken gets the last."""
    return function, "" if function in WOKEN else event.id
