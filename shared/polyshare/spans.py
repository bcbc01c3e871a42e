"""Spans that are over, told to an OTLP collector by OpenTelemetry's SDK, with the ids that `tracing` gave them.

Imported by `telemetry` only where a collector is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision

from polyshare.tracing import Trace

_telling: ContextVar[Trace] = ContextVar("telling")


class _Given(IdGenerator):
    """The ids of the span that is being told."""

    def generate_span_id(self) -> int:
        return int(_telling.get().span_id, 16)

    def generate_trace_id(self) -> int:
        return int(_telling.get().trace_id, 16)


class Spans:
    """Sampler, limits and exporter as the OTEL_* variables set them."""

    def __init__(self, resource: Resource) -> None:
        self._provider = TracerProvider(resource=resource, id_generator=_Given(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("polyshare")

    def samples(self, trace: Trace) -> bool:
        """Whether the sampler takes a trace that begins here."""
        decision = self._provider.sampler.should_sample(None, int(trace.trace_id, 16), "").decision
        return decision is Decision.RECORD_AND_SAMPLE

    def tell(
        self,
        name: str,
        trace: Trace,
        parent: Trace | None,
        began: float,
        ended: float,
        kind: str,
        failed: bool,
        attributes: Mapping[str, str | float],
    ) -> None:
        token = _telling.set(trace)
        try:
            span = self._tracer.start_span(
                name,
                _below(parent),
                api.SpanKind[kind.upper()],
                {name.replace("__", "."): value for name, value in attributes.items()},
                start_time=int(began * 1e9),
            )
        finally:
            _telling.reset(token)
        if failed:
            span.set_status(api.StatusCode.ERROR)
        span.end(int(ended * 1e9))

    def close(self) -> None:
        self._provider.shutdown()


def _below(parent: Trace | None) -> Context:
    if parent is None:
        return Context()
    flags = api.TraceFlags(api.TraceFlags.SAMPLED if parent.sampled else api.TraceFlags.DEFAULT)
    context = api.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return api.set_span_in_context(api.NonRecordingSpan(context), Context())
