"""W3C Trace Context: which request a log line, a row, an event and a job belong to, through all functions.

The trace of what is being done is in a context variable; rows that cause something later remember it as text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """One span of a trace; as text, the header `traceparent`."""

    trace_id: str  # 32 hexadecimal digits
    span_id: str  # 16
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def parse(traceparent: str | None) -> Trace | None:
    """The trace that a header names; None where it is absent or malformed, as the recommendation asks."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None or (found[4] and traceparent is not None and traceparent.startswith("00")):
        return None
    return Trace(found[1], found[2], bool(int(found[3], 16) & 1))


def child_of(parent: Trace | None) -> Trace:
    """A new span below another, or the first of a new trace."""
    span = os.urandom(8).hex()
    return Trace(parent.trace_id, span, parent.sampled) if parent else Trace(os.urandom(16).hex(), span)


def current() -> Trace | None:
    return _current.get()


def traceparent() -> str | None:
    """The current trace as text."""
    trace = _current.get()
    return str(trace) if trace else None


@contextmanager
def within(trace: Trace) -> Iterator[None]:
    """All that is done inside belongs to this trace."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def going_on(traceparent: str | None) -> Iterator[None]:
    """All that is done inside belongs to the trace of the row that causes it; if that has none, to the current one."""
    cause = parse(traceparent)
    if cause is None:
        yield
        return
    with within(child_of(cause)):
        yield
