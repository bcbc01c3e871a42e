"""What is told of each request and event: one line of the log, one span and one measure."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from polyshare import logs, tracing
from polyshare.events import Event
from polyshare.ports import Telemetry

_ABOUT = {"ref": "asset", "id": "asset", "job": "job", "address": "contract"}  # name in a route → member of a log line
_log = logging.getLogger("polyshare")


class Asked:
    """What one request turns out to be, while it is answered."""

    def __init__(self, what: str, trace: tracing.Trace, parent: tracing.Trace | None) -> None:
        self.what, self.trace, self.parent = what, trace, parent
        self.route = ""  # none of ours, so far
        self.problem: dict[str, str] = {}  # why it was refused

    def names(self, names: Mapping[str, str]) -> None:
        """What its path is about."""
        logs.add(**{_ABOUT[name]: value[:100] for name, value in names.items() if name in _ABOUT})

    def event(self, event: Event) -> None:
        """It brings an event, whose own trace counts before that of the delivery."""
        self.what, self.route = "event", event.type[:64]
        logs.add(event=event.id[:100], **({"asset": event.subject[:100]} if event.subject else {}))
        parent = tracing.parse(event.traceparent)
        if parent is not None:
            self.trace, self.parent = tracing.child_of(parent), parent


async def observed(
    function: str, request: Request, telemetry: Telemetry, answer: Callable[[Asked], Awaitable[Response]]
) -> Response:
    """Answer a request, and tell it."""
    parent = tracing.parse(request.headers.get("traceparent"))
    asked = Asked(request.method, telemetry.begin(parent), parent)
    began, clock = time.time(), time.perf_counter()
    with logs.about(function=function):
        with tracing.within(asked.trace):
            response = await answer(asked)
        seconds, status = time.perf_counter() - clock, response.status_code
        what = f"{asked.what} {asked.route}".rstrip()
        with tracing.within(asked.trace):  # by now, it may be that of an event
            _log.info(what, extra={"fields": {"status": status, "seconds": round(seconds, 4), **asked.problem}})
        attributes: dict[str, str | float] = {
            "http__request__method": request.method,
            "http__route": asked.route,
            "http__response__status_code": status,
            "faas__name": function,
        }
        telemetry.measure("http.server.request.duration", seconds, **attributes)
        telemetry.span(
            f"{function} {what}",
            asked.trace,
            asked.parent,
            began,
            began + seconds,
            kind="consumer" if asked.what == "event" else "server",
            failed=status >= 500,
            **attributes,
            **{f"polyshare__{name}": value for name, value in logs.current().items() if name != "function"},
        )
    return response
