"""OpenTelemetry: traces and metrics over OTLP/HTTP, where the standard OTEL_* variables name a collector.

`find` decides; without a collector nothing of OpenTelemetry is imported. Spans are told when they are over, with the
ids of `polyshare.tracing`, which events, jobs and log lines carry in any case.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from polyshare.ports import Silent, Telemetry
from polyshare.tracing import Trace, child_of

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_ENTRIES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
# name → (unit, what it says, bounds of its histogram's buckets; None for a gauge)
METRICS: Mapping[str, tuple[str, str, tuple[float, ...] | None]] = {
    "http.server.request.duration": ("s", "requests and events by function, route and status", _SECONDS),
    "polyshare.anchor.batch": ("{record}", "records in one transaction on the ledger", _ENTRIES),
    "polyshare.anchor.latency": ("s", "from wanting a record on the ledger until it is final there", _SECONDS),
    "polyshare.sweep.duty": ("s", "one duty of sweep, by its name and whether it could be done", _SECONDS),
    "polyshare.outbox.depth": ("{event}", "events that nobody took yet", None),
    "polyshare.writes": ("{record}", "records on their way to the ledger, by state", None),
    "polyshare.jobs": ("{job}", "jobs that are not over, by state", None),
}
_CLOSE_SECONDS = 5.0
_log = logging.getLogger("polyshare")


def find(environ: Mapping[str, str]) -> Telemetry:
    """What the standard variables ask for. A signal goes where it, or all of them, have an endpoint."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Silent()
    told = {
        signal: any(environ.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", f"{signal}_"))
        and environ.get(f"OTEL_{signal}_EXPORTER", "otlp") == "otlp"
        for signal in ("TRACES", "METRICS")
    }
    if not any(told.values()):
        return Silent()
    protocols = {environ.get(f"OTEL_EXPORTER_OTLP_{p}PROTOCOL", "http/protobuf") for p in ("", "TRACES_", "METRICS_")}
    if protocols != {"http/protobuf"}:
        _log.warning("OTEL_EXPORTER_OTLP_PROTOCOL is not http/protobuf, the only one spoken here: nothing is exported")
        return Silent()
    try:
        return OpenTelemetry(environ, traces=told["TRACES"], metrics=told["METRICS"])
    except ImportError as error:
        _log.warning("OTEL_* name a collector, but %s is not installed: pip install polyshare[telemetry]", error.name)
        return Silent()


class OpenTelemetry:
    """The telemetry port on OpenTelemetry's SDK."""

    def __init__(self, environ: Mapping[str, str], *, traces: bool, metrics: bool) -> None:
        resource = _resource(environ)
        self._closing: list[Callable[[], object]] = []
        self._spans = self._traces(resource) if traces else None
        self._meter = self._metrics(resource) if metrics else None
        self._instruments: dict[str, Any] = {}
        self._lock = threading.Lock()

    def begin(self, parent: Trace | None) -> Trace:
        trace = child_of(parent)
        if parent is not None or self._spans is None:
            return trace
        return Trace(trace.trace_id, trace.span_id, self._spans.samples(trace))

    def span(
        self,
        name: str,
        trace: Trace,
        parent: Trace | None,
        began: float,
        ended: float,
        *,
        kind: str = "internal",
        failed: bool = False,
        **attributes: str | float,
    ) -> None:
        if self._spans is not None and trace.sampled:
            self._spans.tell(name, trace, parent, began, ended, kind, failed, attributes)

    def measure(self, name: str, value: float, **attributes: str | float) -> None:
        if self._meter is None:
            return
        unit, says, bounds = METRICS[name]
        with self._lock:
            if name not in self._instruments:
                self._instruments[name] = (
                    self._meter.create_gauge(name, unit, says)
                    if bounds is None
                    else self._meter.create_histogram(name, unit, says, explicit_bucket_boundaries_advisory=bounds)
                )
        instrument, named = self._instruments[name], {k.replace("__", "."): v for k, v in attributes.items()}
        instrument.set(value, named) if bounds is None else instrument.record(value, named)

    def close(self) -> None:
        """Send what is left, for some seconds at most: a collector that is gone must not keep a process alive."""

        def close() -> None:
            for each in self._closing:
                each()

        closing = threading.Thread(target=close, name="telemetry", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)

    def _traces(self, resource: Resource) -> Any:
        from polyshare.spans import Spans

        spans = Spans(resource)
        self._closing.append(spans.close)
        return spans

    def _metrics(self, resource: Resource) -> Any:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        provider = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource)
        self._closing.append(provider.shutdown)
        return provider.get_meter("polyshare")


def _resource(environ: Mapping[str, str]) -> Resource:
    """The service is the function, unless the variables name it."""
    from opentelemetry.sdk.resources import Resource

    named = "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "") or "OTEL_SERVICE_NAME" in environ
    function = environ.get("FUNCTION_TARGET", "")
    attributes = {"faas.name": function} if function else {}
    if not named:
        attributes["service.name"] = function or "polyshare"
    return Resource.create(attributes)
