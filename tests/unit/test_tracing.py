"""One registration is one trace, through every event, ledger write and job that it causes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from polyshare import tracing
from polyshare.catalogue import outbox
from polyshare.catalogue.tables import jobs, parents, writes
from polyshare.catalogue.tables import outbox as rows
from polyshare.events import ASSET_ANCHORED, Event, parse
from polyshare.jobs.job import Job
from polyshare.jobs.remote import Remote
from tests.unit.http_world import HttpWorld
from tests.world import IMAGE

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@pytest.fixture
def http(tmp_path: Path) -> HttpWorld:
    return HttpWorld(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_malformed_header_is_as_none(header: str | None) -> None:
    assert tracing.parse(header) is None


def test_a_header_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert tracing.parse(f"01-{TRACE}-{SPAN}-03-more") == tracing.Trace(TRACE, SPAN, sampled=True)
    assert tracing.parse(f"00-{TRACE}-{SPAN}-00") == tracing.Trace(TRACE, SPAN, sampled=False)


@pytest.mark.parametrize("binary", [False, True], ids=["structured", "binary"])
def test_an_event_brings_its_trace_in_both_modes(binary: bool) -> None:
    event = Event("t", "1", subject="s", traceparent=SENT["traceparent"])
    headers, body = event.structured()
    if binary:
        headers, body = {f"ce-{n}": v for n, v in _attributes(event).items()}, b"{}"
        headers["content-type"] = "application/json"
    assert parse(headers, body).traceparent == event.traceparent


def test_a_registration_is_followed_through_anchor_and_training(http: HttpWorld) -> None:
    dataset = http.world.dataset()
    http.world.settle()
    body = {"dataset": dataset.id, "image": IMAGE}
    model = http.call("register_model", "POST", "/", body, headers=SENT).json["id"]
    written = {row.traceparent for row in http.world.rows(sa.select(rows).where(rows.c.subject == model))}
    assert {_trace(text) for text in written} == {TRACE}
    told = more = deliver(http)
    while more or http.world.runner.run_next():
        more = deliver(http)
        told = [*told, *more]
    assert {event.type for event in told if event.subject == model} >= {"polyshare.result.anchored", ASSET_ANCHORED}
    assert {_trace(event.traceparent) for event in told if event.subject == model and "result" not in event.type} == {
        TRACE
    }
    (job,) = http.world.rows(sa.select(jobs).where(jobs.c.asset == model))
    assert _trace(job.traceparent) == TRACE
    (write,) = http.world.rows(sa.select(writes).where(writes.c.asset == model, writes.c.action == "register"))
    assert _trace(write.traceparent) == TRACE
    assert write.traceparent != SENT["traceparent"]  # it is the function's own span that wrote it


def test_a_jobs_steps_ask_within_the_trace_of_its_registration() -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path.rpartition("/")[2], request.headers.get("traceparent")))
        return httpx.Response(200, json=SENT) if request.url.path.endswith("/start") else httpx.Response(204)

    job = Job("j", 1, "train", "http://functions.invalid/complete_job", "token", deadline=2e9)
    remote = Remote(job, httpx.Client(transport=httpx.MockTransport(answer)))
    remote.start()
    remote.progress("running", "")
    assert asked == [("start", None), ("progress", SENT["traceparent"])]


def test_a_job_document_names_the_trace_of_its_registration(http: HttpWorld) -> None:
    dataset = http.world.dataset()
    http.world.settle()
    taken: list[Job] = []
    http.world.runner.submit = taken.append  # type: ignore[method-assign]
    http.call("register_model", "POST", "/", {"dataset": dataset.id, "image": IMAGE}, headers=SENT)
    deliver(http)
    deliver(http)
    (job,) = taken
    bearer = {"authorization": f"Bearer {job.token}"}
    started = http.call(
        "complete_job", "POST", f"/{job.id}/start", {"attempt": job.attempt}, caller=None, headers=bearer
    )
    assert _trace(started.json["traceparent"]) == TRACE


def test_what_one_event_tells_of_goes_on_in_traces_of_their_own(http: HttpWorld) -> None:
    dataset = http.world.dataset()
    http.world.settle()
    body = {"dataset": dataset.id, "image": IMAGE, "parameters": {"framework": "sklearn"}}
    other = f"00-{'ef' * 16}-{'12' * 8}-01"
    models = {
        http.call("register_model", "POST", "/", body, headers=headers).json["id"]: _trace(headers["traceparent"])
        for headers in ({"traceparent": other}, SENT)
    }
    while deliver(http) or http.world.runner.run_next():
        pass
    linked = sa.select(parents.c.parent, jobs.c.traceparent).join(jobs, jobs.c.asset == parents.c.asset)
    translations = http.world.rows(linked.where(parents.c.role == "model"))
    assert {row.parent: _trace(row.traceparent) for row in translations} == models


def deliver(http: HttpWorld) -> list[Event]:
    """Send the outbox, and hand its events to the functions over HTTP; what was sent."""
    outbox.deliver(http.world.ports)
    queued, http.world.bus.queue = http.world.bus.queue, []
    for name, event in queued:
        assert http.event(name, event).status == 204
    return [event for _, event in queued]


def _trace(text: str | None) -> str | None:
    trace = tracing.parse(text)
    return trace.trace_id if trace else None


def _attributes(event: Event) -> dict[str, Any]:
    named = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type}
    return {**named, "subject": event.subject, "traceparent": event.traceparent}
