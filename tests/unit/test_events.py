"""Signed events, the broker's bus, and dead letters: what a Knative broker does to an event on its way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from polyshare import events
from polyshare.catalogue import outbox, tables
from polyshare.errors import Unavailable
from polyshare.events import BrokerBus, Event
from polyshare.urls import function_url
from tests.unit.http_world import EVENT_TOKEN, HttpWorld, Reply

ROOT = Path(__file__).parents[2]
EVENT = Event(events.JOB_READY, "0199f3a1-5c3e-7b02-9c55-0d8f6f2f1a11", subject="a", data={"b": 1.5, "a": ["é"]})


@pytest.fixture
def http(tmp_path: Path) -> HttpWorld:
    found = HttpWorld(tmp_path)
    found.use(settings=replace(found.world.ports.settings, broker_url="http://broker.invalid"))
    return found


def delivered(document: dict[str, Any], **more: str) -> tuple[dict[str, str], bytes]:
    """A structured event as Knative's broker delivers it: in binary mode, its data and its time written anew."""
    names = {"specversion", "id", "source", "type", "subject", "signature"} & set(document)
    headers = {f"ce-{name}": str(document[name]) for name in names} | {f"ce-{k}": v for k, v in more.items()}
    headers |= {"ce-time": "2026-11-22T13:00:00.000000001Z", "content-type": "application/json"}
    return headers, json.dumps(document["data"], indent=1, ensure_ascii=False).encode()


def post(http: HttpWorld, function: str, event: Event, **more: str) -> Reply:
    headers, body = delivered(json.loads(event.structured()[1]), **more)
    return http.call(function, "POST", "/", body, caller=None, headers=headers)


def test_a_signature_holds_in_both_modes_and_however_the_data_are_written(http: HttpWorld) -> None:
    signed = EVENT.sign(EVENT_TOKEN)
    assert events.parse(*signed.structured()).is_signed(EVENT_TOKEN)
    assert events.parse(*delivered(json.loads(signed.structured()[1]))).is_signed(EVENT_TOKEN)
    assert post(http, "run_job", signed).status == 204
    assert EVENT_TOKEN not in signed.structured()[1].decode()


@pytest.mark.parametrize(
    "change", [{"type": events.ASSET_ANCHORED}, {"id": "other"}, {"subject": "b"}, {"source": "x"}, {"data": {}}]
)
def test_a_signature_is_good_for_its_own_event_only(http: HttpWorld, change: dict[str, Any]) -> None:
    forged = replace(EVENT.sign(EVENT_TOKEN), **change)
    assert not forged.is_signed(EVENT_TOKEN)
    assert post(http, "run_job", forged).problem == "unauthenticated"


@pytest.mark.parametrize("signature", ["", "0" * 64, "é"])
def test_an_event_without_a_good_signature_is_refused(http: HttpWorld, signature: str) -> None:
    assert post(http, "run_job", replace(EVENT, signature=signature)).problem == "unauthenticated"


@pytest.mark.parametrize("data", ['{"a": 1152921504606846976}', '{"a": "\\ud800"}', '{"a": ' * 800 + "1" + "}" * 800])
def test_an_event_with_data_that_nobody_could_have_signed_is_refused(http: HttpWorld, data: str) -> None:
    headers, _ = delivered(json.loads(EVENT.sign(EVENT_TOKEN).structured()[1]))
    reply = http.call("run_job", "POST", "/", data.encode(), caller=None, headers=headers)
    assert reply.status in (400, 401), reply


def test_a_clusters_timer_is_a_tick_for_sweep_alone_and_on_a_cluster_alone(http: HttpWorld) -> None:
    ping = Event("dev.knative.sources.ping", "1", source="/apis/v1/namespaces/polyshare/pingsources/sweep")
    assert post(http, "sweep", ping).status == 204
    for function in ("anchor", "run_job", "translate", "register_dataset"):
        assert post(http, function, ping).problem == "unauthenticated"
    http.use(settings=replace(http.world.ports.settings, broker_url=""))
    assert post(http, "sweep", ping).problem == "unauthenticated"


def waiting(http: HttpWorld) -> list[Any]:
    with http.world.catalogue.reading() as connection:
        return list(connection.execute(sa.select(tables.outbox)).all())


def test_a_dead_letter_is_sent_again_later_once_and_as_it_was(http: HttpWorld) -> None:
    for _ in range(2):
        assert post(http, "sweep", EVENT.sign(EVENT_TOKEN), knativeerrorcode="503").status == 204
    (row,) = waiting(http)
    assert (row.id, row.type, row.subject, row.data) == (EVENT.id, EVENT.type, EVENT.subject, EVENT.data)
    assert outbox.deliver(http.world.ports) == 0
    http.clock.time += 61
    assert outbox.deliver(http.world.ports) == 1
    assert waiting(http) == []


def test_a_dead_letter_without_an_answer_is_sent_again(http: HttpWorld) -> None:
    assert post(http, "sweep", EVENT.sign(EVENT_TOKEN), knativeerrorcode="-1").status == 204
    assert len(waiting(http)) == 1


@pytest.mark.parametrize("code", sorted(events.FOR_GOOD))
def test_a_dead_letter_that_was_refused_for_good_ends(http: HttpWorld, code: int) -> None:
    assert post(http, "sweep", EVENT.sign(EVENT_TOKEN), knativeerrorcode=str(code)).status == 204
    assert waiting(http) == []


def test_a_dead_letter_that_is_not_ours_is_only_a_tick(http: HttpWorld) -> None:
    assert post(http, "sweep", EVENT, knativeerrorcode="503").status == 204
    assert waiting(http) == []


class Broker:
    """A Knative broker between functions: takes every event at once, delivers each in binary mode without a header of
    its sender's, tries again what may work (pkg/kncloudevents of knative/eventing), and then hands it to sweep."""

    RETRY = 2

    def __init__(self, http: HttpWorld) -> None:
        self._http, self.replies = http, list[tuple[str, int]]()

    def publish(self, sent: Sequence[Event]) -> list[bool]:
        for event in sent:
            for function in events.ROUTES[event.type]:
                self._deliver(function, event.sign(EVENT_TOKEN))
        return [True] * len(sent)

    def _deliver(self, function: str, event: Event) -> None:
        for _ in range(1 + self.RETRY):
            reply = post(self._http, function, event)
            status = 502 if 200 <= reply.status < 300 and reply.body else reply.status
            self.replies.append((function, status))
            if status < 300:
                return
            if status < 500 and status not in (404, 408, 409, 429):
                break
        assert post(self._http, "sweep", event, knativeerrorcode=str(status)).status == 204


class NoLedger:
    """A ledger whose node is away."""

    def __getattr__(self, name: str) -> object:
        raise Unavailable("the ledger's node does not answer")


def test_an_event_whose_taker_is_away_comes_back_from_the_broker_and_is_delivered_in_the_end(http: HttpWorld) -> None:
    broker, ledger = Broker(http), http.world.ports.ledger
    http.use(bus=broker, ledger=lambda: NoLedger())
    dataset = http.world.dataset()
    while outbox.deliver(http.world.ports):
        pass
    assert broker.replies == [("anchor", 503)] * 3
    assert len(waiting(http)) == 1
    http.use(ledger=ledger)
    http.clock.time += 61
    assert post(http, "sweep", Event("dev.knative.sources.ping", "1")).status == 204
    assert ("anchor", 204) in broker.replies
    assert http.call("query_status", "GET", f"/{dataset.id}").json["anchored"] is True


@contextmanager
def ingress(status: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A broker's ingress: what it took, as documents."""
    took = []

    class Ingress(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert "authorization" not in self.headers
            took.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ingress)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/polyshare/polyshare", took
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_broker_gets_each_event_once_signed_and_one_for_many_that_only_wake() -> None:
    wakes = [Event(events.ASSET_REGISTERED, str(number)) for number in range(3)]
    with ingress(202) as (url, took):
        assert BrokerBus(url, lambda: "token").publish([*wakes, EVENT, replace(EVENT, id="2")]) == [True] * 5
    expected = {(events.ASSET_REGISTERED, "2"), (EVENT.type, EVENT.id), (EVENT.type, "2")}
    assert {(event["type"], event["id"]) for event in took} == expected
    assert len(took) == 3
    for document in took:
        assert events.parse(*delivered(document)).is_signed("token")


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_an_event_that_the_broker_does_not_take_is_sent_again(status: int) -> None:
    with ingress(status) as (url, _):
        assert BrokerBus(url, lambda: "token").publish([EVENT]) == [False]


def test_an_event_for_a_broker_that_is_away_is_sent_again() -> None:
    assert BrokerBus("http://127.0.0.1:1", lambda: "token").publish([EVENT]) == [False]


def test_the_triggers_are_those_of_the_routing_table() -> None:
    derived = json.loads((ROOT / "infra/terraform/modules/eventing/routes.json").read_bytes())
    assert derived == {kind: list(takers) for kind, takers in events.ROUTES.items()}, "make routes"


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("http://127.0.0.1:8080/{function}", "http://127.0.0.1:8080/run_job"),
        ("https://{function}.models.example.org", "https://run-job.models.example.org"),
        ("http://{function}.polyshare.svc.cluster.local/", "http://run-job.polyshare.svc.cluster.local/"),
    ],
)
def test_a_functions_name_has_no_underscore_in_a_host(template: str, url: str) -> None:
    assert function_url(template, "run_job") == url
