"""Functions as functions-framework serves them, over the fakes of tests.world: requests and events in, answers out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import sqlalchemy as sa
from functions_framework.aio import create_asgi_app
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from polyshare import openapi
from polyshare.api import InboxCredentials
from polyshare.assets import Caller
from polyshare.auth import AUDIENCE, Authenticator
from polyshare.catalogue import Catalogue, tables
from polyshare.events import ROUTES, Event
from tests.world import ALICE, World

ISSUER = "https://issuer.example.org"
EVENT_TOKEN = "the platform's own"
FOLDER = Path(openapi.__file__).parents[2] / "functions"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    taken: int  # bytes of the request that were read

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The type of the problem without its prefix; fails if this is no problem document."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        prefix, _, slug = self.json["type"].rpartition(":")
        assert prefix == "urn:polyshare:problem"
        assert set(self.json) >= {"type", "title", "status", "detail"}
        return str(slug)

    @property
    def detail(self) -> str:
        return str(self.json["detail"])


class HttpWorld:
    """Every function as an ASGI application of its own, on one set of fakes and a database in a file."""

    def __init__(self, folder: Path) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "first"})
        jwks, token = folder / "jwks.json", folder / "event.token"
        jwks.write_text(json.dumps(KeySet([self.key]).as_dict(private=False)))
        token.write_text(EVENT_TOKEN + "\n")
        self.world = World()
        self.store, self.ledger, self.clock = self.world.store, self.world.ledger, self.world.clock
        catalogue = Catalogue(f"sqlite:///{folder / 'catalogue.db'}")
        named = {"event_token_file": str(token), "jwt_issuer": ISSUER, "jwks_file": str(jwks)}
        self.world.catalogue = catalogue
        self.world.ports = replace(
            self.world.ports,
            settings=replace(self.world.ports.settings, **named),
            authenticator=Authenticator(ISSUER, str(jwks)),
            catalogue=catalogue,
            inbox_credentials=lambda named: InboxCredentials("", "", "inbox", f"{named}/", "key", "secret"),
        )
        self._apps: dict[str, Any] = {}

    def use(self, **ports: Any) -> None:
        """Run the functions on other ports from here on."""
        self.world.ports = replace(self.world.ports, **ports)

    def app(self, name: str) -> Any:
        if name not in self._apps:
            self._apps[name] = create_asgi_app(name, str(FOLDER / name / "handler.py"), "http")
        self._apps[name].state.ports = self.world.ports
        return self._apps[name]

    def token(self, caller: Caller = ALICE, *, key: Any = None, header: Mapping[str, Any] = {}, **claims: Any) -> str:
        """A JWT of the caller; claims that are None are left out."""
        now = int(self.clock.now())
        orgs = {name: role.name.lower() for name, role in caller.organisations.items()}
        asked = {"iss": ISSUER, "aud": AUDIENCE, "sub": caller.subject, "iat": now, "exp": now + 3600, "orgs": orgs}
        kept = {name: value for name, value in {**asked, **claims}.items() if value is not None}
        return str(jwt.encode({"alg": "ES256", "kid": "first", **header}, kept, key or self.key))

    def call(
        self,
        name: str,
        method: str,
        path: str = "/",
        body: Any = None,
        *,
        caller: Caller | None = ALICE,
        token: str = "",
        headers: Mapping[str, str] = {},
        query: Mapping[str, str] | str = "",
    ) -> Reply:
        """One request. A body that is neither bytes nor a list of chunks goes as JSON."""
        sent = dict(headers)
        if token or (caller is not None and caller.subject):
            sent.setdefault("authorization", f"Bearer {token or self.token(caller or ALICE)}")
        chunks: Iterable[bytes]
        if isinstance(body, list) and all(isinstance(chunk, bytes) for chunk in body):
            chunks = body
        else:
            data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            chunks = [data]
            sent.setdefault("content-length", str(len(data)))
        if body is not None:
            sent.setdefault("content-type", "application/json")
        asked = query if isinstance(query, str) else urlencode(query)
        return asyncio.run(_exchange(self.app(name), method, path, asked, sent, chunks))

    def event(
        self, name: str, event: Event, *, binary: bool = False, token: str = EVENT_TOKEN, **changes: str | None
    ) -> Reply:
        """Post an event to a function; `changes` replaces headers, None leaves one out."""
        headers, body = event.structured()
        if binary:
            headers = {"content-type": "application/json", "ce-specversion": "1.0", "ce-id": event.id}
            headers |= {"ce-source": event.source, "ce-type": event.type}
            headers |= {"ce-subject": event.subject} if event.subject else {}
            body = json.dumps(dict(event.data)).encode()
        headers["authorization"] = f"Bearer {token}"
        changed = {**headers, **{k.replace("_", "-"): v for k, v in changes.items()}}
        sent = {k: v for k, v in changed.items() if v is not None}
        return self.call(name, "POST", "/", body, caller=None, headers=sent)

    def rows(self) -> dict[str, list[Any]]:
        """All that the database holds, to see that nothing changed."""
        with self.world.catalogue.reading() as connection:
            return {t.name: sorted(map(repr, connection.execute(sa.select(t)))) for t in tables.metadata.sorted_tables}


class Broker:
    """Delivers events over HTTP as Knative's broker does, and remembers which went to the dead-letter sink.

    The rule is that of knative/eventing's pkg/kncloudevents (SelectiveRetry) and of its broker's filter: 2xx with an
    empty body, or with an event, is delivered; 2xx with any other body is a bad reply (502), so retried; no answer,
    5xx, 404, 408, 409 and 429 are retried; any other answer is final.
    """

    def __init__(self, world: HttpWorld) -> None:
        self.world, self.dead, self.replies = world, list[tuple[str, Event, int]](), list[tuple[str, int]]()

    def publish(self, sent: Iterable[Event]) -> list[bool]:
        return [all(self.deliver(name, event) for name in ROUTES[event.type]) for event in sent]

    def deliver(self, name: str, event: Event, *, binary: bool = True, **changes: str | None) -> bool:
        reply = self.world.event(name, event, binary=binary, **changes)
        self.replies.append((name, reply.status))
        is_event = "ce-id" in reply.headers or "cloudevents" in reply.headers.get("content-type", "")
        status = 502 if 200 <= reply.status < 300 and reply.body and not is_event else reply.status
        if status >= 500 or status in (404, 408, 409, 429):
            return False
        if status >= 300:
            self.dead.append((name, event, status))
        return True


def path_of(template: str, values: Mapping[str, str]) -> str:
    """A route's path with its names filled in, each as one segment."""
    return template.format(**{name: quote(value, safe="") for name, value in values.items()})


async def _exchange(
    app: Any, method: str, path: str, query: str, headers: Mapping[str, str], chunks: Iterable[bytes]
) -> Reply:
    source, taken, ended, started, body = iter(chunks), 0, False, dict[str, Any](), bytearray()

    async def receive() -> dict[str, Any]:
        nonlocal taken, ended
        chunk = next(source, None)
        if chunk is None:
            if ended:  # the client says no more, and stays
                await asyncio.sleep(3600)
            ended = True
            return {"type": "http.request", "body": b"", "more_body": False}
        taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            body.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()],
        "server": ("functions.test", 80),
        "client": ("127.0.0.1", 1),
    }
    await asyncio.wait_for(app(scope, receive, send), 60)
    answered = {k.decode().lower(): v.decode("latin-1") for k, v in started["headers"]}
    return Reply(started["status"], answered, bytes(body), taken)
