"""Calls to the functions: JSON in and out, problem documents back as the errors they were made from."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, TypeVar, overload

import msgspec

from polyshare import errors
from polyshare.client.profile import Profile
from polyshare.errors import PolyshareError, Unavailable
from polyshare.tracing import Trace, child_of
from polyshare.urls import function_url
from polyshare.wire import Connections, Reply

_T = TypeVar("_T")
_BRIEF = 2.0  # seconds that a command waits for a server that is not there


class Endpoint:
    """The functions of one registry, as one caller."""

    def __init__(self, profile: Profile, connections: Connections, trace: Trace | None = None) -> None:
        self.profile = profile
        self.connections = connections
        self._trace = trace

    def traced(self) -> Endpoint:
        """The same, all of whose calls belong to one new trace: an operator finds them together."""
        return Endpoint(self.profile, self.connections, child_of(None))

    @overload
    def call(
        self,
        method: str,
        function: str,
        path: str,
        kind: type[_T],
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        key: str | None = None,
        patience: float = _BRIEF,
    ) -> _T: ...
    @overload
    def call(
        self,
        method: str,
        function: str,
        path: str,
        kind: None,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        key: str | None = None,
        patience: float = _BRIEF,
    ) -> None: ...
    def call(
        self,
        method: str,
        function: str,
        path: str,
        kind: type[Any] | None,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        key: str | None = None,
        patience: float = _BRIEF,
    ) -> Any:
        """One call, read as `kind`; `key` is its Idempotency-Key.

        Every call can be made again without harm, so it is, for `patience` seconds and at least as long as the server
        asks (503 with Retry-After, a minute at most). Raises what the function answered, or Unavailable.
        """
        reply = self.reply(method, function, path, body, query=query, key=key, patience=patience)
        if kind is None:
            return None
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{function} answered what this polyshare does not understand: {error}") from error

    def reply(
        self,
        method: str,
        function: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        key: str | None = None,
        patience: float = _BRIEF,
    ) -> Reply:
        """As `call`, the answer not read yet; its status is 2xx."""
        url = function_url(self.profile.url, function).rstrip("/") + path
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        if asked:
            url += "?" + urllib.parse.urlencode(asked)
        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "polyshare"}
        data = None
        if method == "POST":
            headers["content-type"] = "application/json"
            data = msgspec.json.encode({} if body is None else body)
        if self.profile.token:
            headers["authorization"] = f"Bearer {self.profile.token}"
        if key:
            headers["idempotency-key"] = key
        if self._trace:
            headers["traceparent"] = str(child_of(self._trace))

        def send(connection: http.client.HTTPConnection) -> Reply:
            connection.request(method, self.connections.target(url), data, headers)
            return self.connections.reply(connection)

        end = time.monotonic() + patience
        last = time.monotonic() + max(60.0, patience)
        pause = 0.2
        while True:
            try:
                reply = self.connections.exchange(url, send)
                if reply.status < 300:
                    return reply
                error = _problem(reply, url)
            except (OSError, http.client.HTTPException) as failure:
                error = _no_answer(self.profile, url, failure)
            if not isinstance(error, Unavailable):
                raise error
            asked_to_wait = error.fields.get("asked_to_wait")
            pause = float(asked_to_wait) if isinstance(asked_to_wait, (int, float)) else min(2 * pause, 4.0)
            if time.monotonic() + pause > (last if asked_to_wait is not None and patience else end):
                raise error
            self.connections.pause(pause)


def segment(ref: str) -> str:
    """A reference as one segment of a path."""
    return "/" + urllib.parse.quote(ref, safe="")


def _no_answer(profile: Profile, url: str, failure: Exception) -> Unavailable:
    server = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
    if isinstance(failure, ConnectionRefusedError):
        local = urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        hint = "is the stack running? polyshare up" if local else "is the address right? polyshare login --url …"
        return Unavailable(f"nothing answers at {server}: {hint}")
    return Unavailable(f"{server} does not answer: {failure or type(failure).__name__}")


def _problem(reply: Reply, url: str) -> PolyshareError:
    """The error that a problem document (RFC 9457) tells of."""
    try:
        document = json.loads(reply.body)
        slug = str(document["type"]).rpartition(":")[2].rpartition("/")[2]
        detail = str(document["detail"])
    except (ValueError, KeyError, TypeError):
        text = f"{url.partition('?')[0]} answered HTTP {reply.status} without saying why: is it a polyshare registry?"
        return Unavailable(text) if reply.status >= 500 else PolyshareError(text)
    fields = {k: v for k, v in document.items() if k not in ("type", "title", "status", "detail")}
    kind = _KINDS.get(slug, PolyshareError)
    if reply.status == 503:
        wait = reply.headers.get("retry-after", "")
        return Unavailable(detail, asked_to_wait=min(float(wait), 30.0) if wait.isdigit() else 2.0, **fields)
    return kind(detail, **fields)


def _kinds() -> dict[str, type[PolyshareError]]:
    return {
        kind.slug: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PolyshareError)
    }


_KINDS = _kinds()
