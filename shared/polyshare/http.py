"""HTTP functions: a handler gives routes, each of which parses, calls an operation and answers.

Errors become RFC 9457 problem documents here and nowhere else. A function is an ASGI function of functions-framework:
`async def name(request)`; operations run in threads, so that a slow one holds nobody up.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Literal
from urllib.parse import unquote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from polyshare import api, events, logs, tracing
from polyshare.assets import ANONYMOUS, Caller
from polyshare.auth import bearer_of_basic, is_secret
from polyshare.bootstrap import Ports, is_ending, ports
from polyshare.errors import Invalid, NotAllowed, NotFound, PolyshareError, TooLarge, Unauthenticated, Unavailable
from polyshare.form import SentFile, sent_file
from polyshare.observed import Asked, observed
from polyshare.ports import Silent, Telemetry
from polyshare.readiness import Readiness
from polyshare.settings import read_secret

LARGEST_BODY = 32 * 1024 * 1024  # bytes: a manifest of 100,000 files
PROBLEM = "urn:polyshare:problem:"
_BASIC = 'Basic realm="polyshare", charset="UTF-8"'
_NUMBER = re.compile(r"[0-9]{1,16}(\.[0-9]{1,9})?")
_JSON = re.compile(r"application/([a-z0-9.+-]+\+)?json")
_log = logging.getLogger("polyshare")

Auth = Literal["user", "anyone", "job", "platform"]  # the last: who has the event token


@dataclass(frozen=True, slots=True)
class Call:
    """One request, parsed: what an operation's handler needs."""

    ports: Ports
    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    token: str  # of a job; "" otherwise
    idempotency_key: str | None
    file: SentFile | None = None

    def number(self, name: str, default: float, *, most: float) -> float:
        """A number of the query string, at least 0 and at most `most`; raises Invalid."""
        text = self.query.get(name)
        if text is None:
            return default
        if not _NUMBER.fullmatch(text):
            raise Invalid(f"query parameter {name} is not a number: write digits, with a point where needed")
        value = float(text)
        if not 0 <= value <= most:
            raise Invalid(f"query parameter {name} is not between 0 and {most:g}")
        return value

    def whole(self, name: str, default: int, *, most: int) -> int:
        """As `number`, without a fraction."""
        if "." in self.query.get(name, ""):
            raise Invalid(f"query parameter {name} is not a whole number")
        return int(self.number(name, default, most=most))


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that are sent as they come, instead of JSON."""

    pieces: Iterator[bytes]
    size: int
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body (a value of polyshare.api, Content, or None for 204)."""

    status: int
    body: Any = None


Handler = Callable[[Call], Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of a function. `answers` is what OpenAPI says of it: status → type."""

    method: Literal["GET", "POST", "PUT"]
    path: str  # with {names}; each is one URL-encoded segment
    handler: Handler
    answers: Mapping[int, type[Any] | None]
    body: Any = None  # a type
    auth: Auth = "user"
    query: Sequence[str] = ()
    file: str = ""  # the field of a multipart/form-data body that brings a file


class Function:
    """A function's routes and the events it takes."""

    def __init__(
        self,
        name: str,
        routes: Sequence[Route] = (),
        on_event: Callable[[Ports, events.Event], None] | None = None,
        *,
        basic: bool = False,  # whether the token may come as the password of HTTP Basic
        timed: bool = False,  # whether a cluster's timer and event sources, which can't sign, may have it do its rounds
        needs: Sequence[str] = (),  # settings that name files without which it can't serve
    ) -> None:
        self.name, self.routes, self.on_event, self.basic, self.timed = name, routes, on_event, basic, timed
        self._patterns = [(route, _pattern(route.path)) for route in routes]
        takes_events = on_event is not None or any(route.auth == "platform" for route in routes)
        self._readiness = Readiness([*(["event_token_file"] if takes_events else []), *needs])

        async def serve(request: Request) -> Response:
            path = _route_path(request)
            if path in ("/healthz", "/readyz") and request.method in ("GET", "HEAD"):
                return Response("ok") if path == "/healthz" else await self._ready(request)
            return await observed(self.name, request, _telemetry_of(request), partial(self._respond, request, path))

        self.serve = serve  # functions-framework takes plain functions only, no bound methods

    async def _ready(self, request: Request) -> Response:
        """503 while it can't serve, with the names of what it lacks: why is for the log alone."""
        if is_ending():
            return Response("this process ends", 503)
        with logs.about(function=self.name):
            lacking = await in_thread(lambda: self._readiness.lacking(lambda: _ports_of(request)))
        if lacking:
            return Response(f"waits for {', '.join(lacking)}", 503)
        return Response("ready")

    async def _respond(self, request: Request, path: str, asked: Asked) -> Response:
        try:
            return await self._answer(request, path, asked)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:
            if isinstance(error, PolyshareError) and error.status != 500:
                asked.problem = {"problem": error.message[:500]}
                challenge = {"www-authenticate": _BASIC} if self.basic and error.status == 401 else None
                return problem(error, challenge)
            reference = uuid.uuid4().hex[:12]  # what is wrong inside, a setting for one, is for the operator's eyes
            _log.exception("%s failed (%s)", self.name, reference)
            return problem(PolyshareError(f"something went wrong inside {self.name}; its log has it as {reference}"))

    async def _answer(self, request: Request, path: str, asked: Asked) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        method = "GET" if request.method == "HEAD" else request.method
        if method == "POST" and self.on_event is not None and (events.is_event(headers) or not self.routes):
            return await self._take_event(request, headers, asked)
        methods = set[str]()
        matches = [(route, match) for route, pattern in self._patterns if (match := pattern.fullmatch(path))]
        fewest = min((len(match.groups()) for _, match in matches), default=0)  # of a path, the most literal is meant
        for route, match in matches:
            if len(match.groups()) > fewest:
                continue
            methods.update(("GET", "HEAD") if route.method == "GET" else (route.method,))
            if route.method == method:
                names = {name: unquote(value) for name, value in match.groupdict().items()}
                asked.route = route.path
                asked.names(names)
                return await self._call(route, request, headers, names)
        if path == "/" and self.on_event is not None:
            methods.add("POST")
        if not methods:
            raise NotFound(f"{self.name} has no {path[:200]}")
        allow = {"allow": ", ".join(sorted({*methods, "OPTIONS"}))}
        if method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        return problem(NotAllowed(f"{method} is not allowed here, but {allow['allow']}"), allow)

    async def _call(
        self, route: Route, request: Request, headers: Mapping[str, str], names: Mapping[str, str]
    ) -> Response:
        body = await _read_body(request) if route.method != "GET" and not route.file else b""
        sent = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if route.body is not None and not _JSON.fullmatch(sent):
            raise Invalid(f"the body is JSON: send content-type application/json, not {sent[:100]!r}")
        world = _ports_of(request)
        authorization = headers.get("authorization")
        caller, token = ANONYMOUS, ""
        if route.auth == "job":
            token = (authorization or "").removeprefix("Bearer ")
        elif route.auth == "platform":
            _check_platform(world, bearer_of_basic(authorization))
        else:
            if self.basic:
                authorization = bearer_of_basic(authorization)
            now = world.clock.now()
            caller = world.authenticator.known(authorization, now) or await in_thread(
                lambda: world.authenticator.caller(authorization, now)
            )
            if route.auth == "user" and not caller.subject:
                raise Unauthenticated("this needs a token: polyshare login")
        call = Call(
            ports=world,
            caller=caller,
            path=names,
            query=_query(request, route),
            body=api.decode(body, route.body) if route.body is not None else None,
            token=token,
            idempotency_key=_idempotency_key(headers),
        )
        if route.file:
            async with sent_file(request, route.file) as file:
                brought = replace(call, file=file)
                answer = await in_thread(lambda: route.handler(brought))
        elif inspect.iscoroutinefunction(route.handler):
            answer = await route.handler(call)
        else:
            answer = await in_thread(lambda: route.handler(call))
        if isinstance(answer.body, api.Registered | api.Uploading):
            logs.add(asset=answer.body.id)
        if route.method != "GET":
            world.wake()
        if isinstance(answer.body, Content):
            return await _content(answer.status, answer.body, head=request.method == "HEAD")
        if answer.body is None:
            return Response(status_code=answer.status)
        return Response(msgspec.json.encode(answer.body), answer.status, media_type="application/json")

    async def _take_event(self, request: Request, headers: Mapping[str, str], asked: Asked) -> Response:
        """204 when done or done already; 4xx for what will never work; 503 for what may (senders retry 404 and 409)."""
        _idempotency_key(headers)  # an event has its id, and needs none; one that is no key is refused everywhere
        body = await _read_body(request)
        world = _ports_of(request)
        event = self._checked(world, headers, body)
        assert self.on_event is not None
        asked.event(event)
        with tracing.within(asked.trace):
            try:
                await in_thread(lambda: self.on_event(world, event))  # type: ignore[misc]
            except PolyshareError as error:
                if error.status >= 500:
                    raise
                raise Invalid(error.message) from error
            world.wake()
        return Response(status_code=204)

    def _checked(self, world: Ports, headers: Mapping[str, str], body: bytes) -> events.Event:
        """The event of a sender that has the event token, which its header or its signature shows.

        On a cluster a `timed` function takes any other for a mere tick, whatever it says: it has one instance, which
        is not public and does one round at a time.
        """
        if "authorization" in headers:
            _check_platform(world, headers["authorization"])
            return events.parse(headers, body)
        event = events.parse(headers, body)
        if event.is_signed(read_secret(world.settings.event_token_file, "event_token_file")):
            return event
        if self.timed and world.settings.broker_url:
            return events.Event(events.SWEEP_DUE, event.id)
        raise Unauthenticated("events come from the platform itself, with its event token or signed by it")


async def _content(status: int, content: Content, *, head: bool) -> Response:
    """Its first piece is there before anything is answered, so that a store that is down is told as such."""
    headers = {**content.headers, "content-length": str(content.size)}
    first = b"" if head else await in_thread(lambda: next(content.pieces, b""))
    if head:
        return Response(status_code=status, headers=headers, media_type=content.media_type)

    async def pieces() -> AsyncIterator[bytes]:
        piece = first
        while piece:
            yield piece
            piece = await in_thread(lambda: next(content.pieces, b""))

    return StreamingResponse(pieces(), status, headers, content.media_type)


def registration(answer: api.Registered | api.Uploading) -> Answer:
    """201 when it is registered, 202 while there is something to upload."""
    return Answer(201 if isinstance(answer, api.Registered) else 202, answer)


def upload_urls(call: Call) -> Answer:
    """Presigned PUTs for the parts of an upload of the caller's."""
    from polyshare.operations.register import uploading
    from polyshare.operations.uploads import sign

    with call.ports.catalogue.reading() as connection:
        asset = uploading(connection, call.caller, call.path["id"])
    wanted = [(part.path, part.part, bytes.fromhex(part.sha256)) for part in call.body.parts]
    return Answer(200, api.UploadUrls(sign(call.ports, asset.id, wanted)))


def confirm_upload(call: Call) -> Answer:
    """Register what was uploaded; again is the same."""
    from polyshare.operations.register import confirm

    return Answer(201, confirm(call.ports, call.path["id"], call.caller))


def problem(error: PolyshareError, headers: Mapping[str, str] | None = None) -> Response:
    """The problem document of an error."""
    document = {
        **error.fields,
        "type": PROBLEM + error.slug,
        "title": title_of(type(error)),
        "status": error.status,
        "detail": error.message,
    }
    extra = dict(headers or {})
    if isinstance(error, Unavailable):
        extra["retry-after"] = str(error.retry_after)
    if isinstance(error, Unauthenticated):
        extra.setdefault("www-authenticate", 'Bearer realm="polyshare"')
    return Response(msgspec.json.encode(document), error.status, extra, "application/problem+json")


def title_of(kind: type[PolyshareError]) -> str:
    """The title of a type of problem: the same for all of that type."""
    if kind is PolyshareError:
        return "Something went wrong inside the registry"
    return (kind.__doc__ or "").partition(".")[0].strip()


def _check_platform(world: Ports, authorization: str | None) -> None:
    if not is_secret(authorization, read_secret(world.settings.event_token_file, "event_token_file")):
        raise Unauthenticated("events come from the platform itself, with its event token")


def _ports_of(request: Request) -> Ports:
    """The ports that the application was given, or else those of this process."""
    given: Ports | None = getattr(request.app.state, "ports", None)
    return given or ports()


def _telemetry_of(request: Request) -> Telemetry:
    try:
        return _ports_of(request).telemetry
    except PolyshareError:
        return Silent()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(32, thread_name_prefix="operation")


async def in_thread(work: Callable[[], Any]) -> Any:
    context = contextvars.copy_context()  # the trace, and what log lines are about
    return await asyncio.get_running_loop().run_in_executor(_threads(), context.run, work)


async def _read_body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > LARGEST_BODY:
        raise TooLarge(f"the body is over {LARGEST_BODY} bytes")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_BODY:
            raise TooLarge(f"the body is over {LARGEST_BODY} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _route_path(request: Request) -> str:
    """The path below the function, still URL-encoded, so that org%2Fname is one segment."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    path = raw.split(b"?")[0].decode("ascii", "replace").removeprefix(request.scope.get("root_path", ""))
    return path.rstrip("/") or "/"


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.rstrip("/")) or "/")


def _query(request: Request, route: Route) -> dict[str, str]:
    """The query string; raises Invalid on what the route does not know, so that a typing mistake is no silence."""
    query: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in route.query:
            known = ", ".join(route.query) or "none"
            raise Invalid(f"there is no query parameter {name[:100]!r} here: known are {known}")
        if name in query:
            raise Invalid(f"query parameter {name} is given twice")
        if not value:
            raise Invalid(f"query parameter {name} is empty: leave it out, or say what is meant")
        if "\0" in value:
            raise Invalid(f"query parameter {name} has a NUL character in it")
        query[name] = value
    return query


def _idempotency_key(headers: Mapping[str, str]) -> str | None:
    key = headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= 255:
        raise Invalid("an Idempotency-Key has 1 to 255 characters")
    return key
