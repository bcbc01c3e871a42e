"""Events between the functions: CloudEvents 1.0, and the one table that says which function takes which.

On Knative the table becomes Triggers and `BrokerBus` posts to the broker; embedded, `HttpBus` posts straight to the
functions. A broker's triggers can't add a header, and keep what passes through them: so an event carries no token, but
the extension attribute `signature`, which is good for this event alone, whoever hands it on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from polyshare.errors import Invalid
from polyshare.urls import function_url

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
FOR_GOOD = frozenset({400, 403, 422})  # answers that end an event: its taker has logged why


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent; (source, id) says which it is, however often it arrives."""

    type: str
    id: str
    subject: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    source: str = SOURCE
    time: float = 0.0  # Unix seconds
    signature: str = ""
    refused: int = 0  # of a dead letter: the status that its taker answered last; 0 if there was no answer
    traceparent: str = ""  # W3C; CloudEvents' extension for distributed tracing

    @property
    def assets(self) -> list[str]:
        """The assets that it is about: one transaction on the ledger is one event of many."""
        listed = self.data.get("assets", [self.subject])
        if not isinstance(listed, list) or not all(isinstance(asset, str) for asset in listed):
            raise Invalid("the event's data.assets is not a list of ids")
        return listed

    def sign(self, token: str) -> Event:
        """The event with its signature: the same in either mode, however a broker writes its data."""
        return replace(self, signature=self._mac(token))

    def is_signed(self, token: str) -> bool:
        try:
            return bool(self.signature) and hmac.compare_digest(self.signature.encode(), self._mac(token).encode())
        except (ValueError, RecursionError):  # data that nobody could have signed
            return False

    def _mac(self, token: str) -> str:
        """Its time is left out: a broker may write it otherwise, and nothing hangs on it."""
        import rfc8785

        signed = rfc8785.dumps([self.type, self.id, self.source, self.subject, dict(self.data)])
        return hmac.digest(token.encode(), b"polyshare/event/1" + signed, hashlib.sha256).hex()

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
            "signature": self.signature,
        }
        for name in ("subject", "signature"):
            if not document[name]:
                del document[name]
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
        signature=str(event.get("signature") or ""),
        refused=int(code) if (code := str(event.get("knativeerrorcode") or "")).isdecimal() else 0,
    )


class HttpBus:
    """Posts events to the functions that take them, under the URL template; senders count 2xx as taken.

    A refusal that can't change also ends it. Anything else is retried.
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
            url = function_url(self._url, function)
            status = self._client.post(url, headers=headers, content=body).status_code
        except httpx.HTTPError:
            return False
        return 200 <= status < 300 or status in FOR_GOOD


class BrokerBus:
    """Posts signed events to a Knative broker, whose triggers bring them to the functions; 2xx is taken."""

    def __init__(self, url: str, token: Callable[[], str], *, timeout: float = 10.0) -> None:
        self._url, self._token, self._timeout = url, token, timeout
        self._client: Any = None

    def publish(self, sent: Sequence[Event]) -> list[bool]:
        import httpx

        if self._client is None:
            self._client = httpx.Client(timeout=self._timeout, trust_env=False)
        posts = {_type_of(event): event for event in sent}
        with ThreadPoolExecutor(8, thread_name_prefix="bus") as pool:
            taken = dict(zip(posts, pool.map(self._post, posts.values()), strict=True))
        return [taken[_type_of(event)] for event in sent]

    def _post(self, event: Event) -> bool:
        import httpx

        headers, body = event.sign(self._token()).structured()
        try:
            return bool(self._client.post(self._url, headers=headers, content=body).is_success)
        except httpx.HTTPError:
            return False


def _takers(event: Event) -> tuple[str, ...]:
    return ROUTES.get(event.type, ())


def _post_of(event: Event, function: str) -> tuple[str, str]:
    """What tells one request from another: of the events of one batch, a function that is only woken gets the last."""
    return function, "" if function in WOKEN else event.id


def _type_of(event: Event) -> tuple[str, str]:
    """As `_post_of`, where one request serves all the takers."""
    return event.type, "" if WOKEN.issuperset(_takers(event)) and _takers(event) else event.id
