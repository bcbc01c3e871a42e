"""OpenTelemetry, switched on by its standard variables, told to a real OTLP receiver."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from polyshare.ports import Silent
from polyshare.telemetry import METRICS, OpenTelemetry, find
from tests.contract.test_serve import Platform
from tests.contract.test_serve import platform as platform
from tests.unit.http_world import HttpWorld
from tests.world import IMAGE

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


class Receiver:
    """Takes OTLP over HTTP, and decodes it."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, Any], Any]] = []  # the resource's attributes, and the span
        self.metrics: dict[str, list[tuple[dict[str, Any], Any]]] = {}  # name → attributes and points
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self.path, self.rfile.read(int(self.headers["content-length"])), self.headers)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _take(self, path: str, body: bytes, headers: Any) -> None:
        assert headers["content-type"] == "application/x-protobuf"
        if path == "/v1/traces":
            for told in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans = [span for scope in told.scope_spans for span in scope.spans]
                self.spans += [(_read(told.resource.attributes), span) for span in spans]
        else:
            assert path == "/v1/metrics"
            for told in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metric in (metric for scope in told.scope_metrics for metric in scope.metrics):
                    points = metric.gauge.data_points or metric.histogram.data_points
                    self.metrics.setdefault(metric.name, []).extend((_read(p.attributes), p) for p in points)


def _read(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()


def test_a_function_tells_its_requests_and_the_rest_when_it_ends(platform: Platform, receiver: Receiver) -> None:
    with platform.serve("catalogue", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as served:
        assert httpx.get(served.url, headers=SENT).status_code == 200
        assert httpx.get(f"{served.url}/acme%2Fnothing/lineage").status_code == 404
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
        logged = [line for line in served.lines() if "span_id" in line]
    (resource, span), (_, lost) = receiver.spans
    assert (resource["service.name"], resource["faas.name"]) == ("catalogue", "catalogue")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert [span.span_id.hex(), lost.span_id.hex()] == [line["span_id"] for line in logged]
    assert (span.name, _read(span.attributes)["http.response.status_code"]) == ("catalogue GET /", 200)
    assert lost.trace_id.hex() == logged[1]["trace_id"] != TRACE
    counted = {
        (a["http.route"], a["http.response.status_code"]): p.count
        for a, p in receiver.metrics["http.server.request.duration"]
    }
    assert counted == {("/", 200): 1, ("/{ref}/lineage", 404): 1}


def test_anchor_jobs_and_sweep_tell_their_measures(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    telemetry = find({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    assert isinstance(telemetry, OpenTelemetry)
    http = HttpWorld(tmp_path)
    http.use(telemetry=telemetry)
    dataset = http.world.dataset()
    http.world.settle()
    model = http.call("register_model", "POST", "/", {"dataset": dataset.id, "image": IMAGE}, headers=SENT).json["id"]
    http.world.sweep()
    http.world.settle(sweeps=1)
    telemetry.close()
    assert set(receiver.metrics) == set(METRICS)
    duties = {a["duty"] for a, _ in receiver.metrics["polyshare.sweep.duty"]}
    assert {"deliver", "recover_jobs", "anchor_pending", "forget"} <= duties
    assert {a["state"] for a, _ in receiver.metrics["polyshare.jobs"]} == {
        *("waiting", "queued", "running", "publishing")
    }
    assert sum(p.sum for _, p in receiver.metrics["polyshare.anchor.batch"]) == 3
    mine = [span for _, span in receiver.spans if span.trace_id.hex() == TRACE]
    assert {span.name for span in mine} >= {"register_model POST /", "ledger register"}
    (written,) = (span for span in mine if span.name == "ledger register")
    assert _read(written.attributes)["polyshare.asset"] == model
    assert written.end_time_unix_nano >= written.start_time_unix_nano


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_nothing_is_told_unless_it_is_asked_for(environ: dict[str, str]) -> None:
    assert isinstance(find(environ), Silent)


def test_the_sampler_of_the_variables_decides_for_the_whole_trace(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    telemetry = find({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.url})
    root = telemetry.begin(None)
    assert not root.sampled
    assert str(root).endswith("-00")
    for parent in (None, root):
        trace = telemetry.begin(parent)
        telemetry.span("x", trace, parent, 1.0, 2.0)
    telemetry.close()
    assert receiver.spans == []


def test_a_collector_that_is_gone_keeps_no_process_alive(platform: Platform) -> None:
    with platform.serve("catalogue", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1") as served:
        assert httpx.get(served.url).status_code == 200
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
