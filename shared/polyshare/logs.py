"""Logs: one JSON object a line on standard output on a platform, plain text on a terminal.

A line says what happened, where (function, trace, asset, job) and how long it took. It never holds a header, a query
string, a body or a signed URL; what looks like a credential inside somebody else's message is struck out.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

from polyshare import tracing

_SECRETS = re.compile(
    r"(?P<before>\b(?:bearer|basic)\s+|[?&]x-amz-(?:signature|credential|security-token)=|\b(?:password|token|secret)=|"
    r"://[^/\s:@]*:)(?P<secret>[^\s&'\"@]+)",
    re.IGNORECASE,
)
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**names: str) -> Iterator[None]:
    """Lines that are written inside say what they are about: function, asset, job, event."""
    token = _about.set({**_about.get(), **{name: value for name, value in names.items() if value}})
    try:
        yield
    finally:
        _about.reset(token)


def add(**names: str) -> None:
    """Say more of what the lines that follow are about, until `about` ends."""
    _about.set({**_about.get(), **names})


def current() -> Mapping[str, str]:
    """What lines are about now."""
    return _about.get()


def configure(*, as_json: bool) -> None:
    """Write this process's log to standard output. Libraries tell what is wrong only: httpx names URLs otherwise."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Json() if as_json else Plain("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("polyshare").setLevel(logging.INFO)


class Plain(logging.Formatter):
    """For people."""

    def format(self, record: logging.LogRecord) -> str:
        told = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        return without_secrets(f"{super().format(record)} {told}".rstrip())


class Json(logging.Formatter):
    """One object a line. Members of `extra={"fields": {…}}` are its own."""

    def format(self, record: logging.LogRecord) -> str:
        trace = tracing.current()
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "message": record.getMessage(),
            **_about.get(),
            **getattr(record, "fields", {}),
        }
        if trace is not None:
            line |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
        if record.name != "polyshare":
            line["logger"] = record.name
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({name: _clean(value) for name, value in line.items()}, ensure_ascii=False, default=str)


def without_secrets(text: str) -> str:
    """The text without what looks like a credential."""
    return _SECRETS.sub(lambda match: match["before"] + "***", text)


def _clean(value: object) -> object:
    return without_secrets(value) if isinstance(value, str) else value
