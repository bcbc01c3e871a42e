"""Events at each function, over HTTP, under the rule by which Knative's broker sends them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polyshare import events
from polyshare.errors import Conflict, Misconfigured, NotFound, Unavailable
from polyshare.events import Event
from polyshare.ports import Bucket
from tests.unit.http_world import EVENT_TOKEN, Broker, HttpWorld

TAKERS = sorted({name for takers in events.ROUTES.values() for name in takers})
ID = "0199f3a1-5c3e-7b02-9c55-0d8f6f2f1a11"


@pytest.fixture
def http(tmp_path: Path) -> HttpWorld:
    return HttpWorld(tmp_path)


@pytest.mark.parametrize("function", TAKERS)
@pytest.mark.parametrize("binary", [False, True], ids=["structured", "binary"])
def test_every_event_function_answers_204_without_a_body_in_both_modes(
    http: HttpWorld, function: str, binary: bool
) -> None:
    event = Event(next(kind for kind, takers in events.ROUTES.items() if function in takers), "1", subject=ID)
    reply = http.event(function, event, binary=binary)
    assert (reply.status, reply.body) == (204, b"")


def test_an_event_delivered_again_and_late_changes_nothing(http: HttpWorld) -> None:
    model = http.world.model(http.world.dataset().id)
    http.world.settle()
    before = http.rows()
    for binary in (False, True):
        for kind, takers in events.ROUTES.items():
            for function in takers:
                for subject in (model.id, ID, ""):
                    assert http.event(function, Event(kind, "again", subject), binary=binary).status == 204
    after = http.rows()
    del before["leases"], after["leases"]
    assert after == before


def test_events_in_any_order_come_to_the_same_end(http: HttpWorld) -> None:
    dataset = http.world.dataset()
    model = http.world.model(dataset.id)
    for kind in (events.RESULT_ANCHORED, events.JOB_READY, events.ASSET_ANCHORED, events.RESULT_RECORDED):
        for function in events.ROUTES[kind]:
            assert http.event(function, Event(kind, kind, subject=model.id)).status == 204
    http.world.settle(sweeps=1)
    status = http.call("query_status", "GET", f"/{model.id}").json
    assert (status["state"], status["result_anchored"]) == ("trained", True)


def test_an_upload_to_the_inbox_becomes_an_ingest_once(http: HttpWorld) -> None:
    http.world.drop("acme/digits/", {"train/a.csv": b"1,2\n"})
    key = "/buckets/polyshare-inbox/acme/digits/dataset.json"
    for number in range(3):
        event = Event(events.INBOX_CHANGED, str(number), data={"key": key})
        assert http.event("register_dataset", event, binary=bool(number % 2)).status == 204
    http.world.settle()
    (found,) = http.call("catalogue", "GET", query={"organisation": "acme"}).json["assets"]
    assert (found["name"], found["version"], found["state"]) == ("digits", 1, "registered")


@pytest.mark.parametrize("function", TAKERS)
@pytest.mark.parametrize("token", ["", "wrong", EVENT_TOKEN[:-1], EVENT_TOKEN + "x", "wröng"])
def test_an_event_without_the_platforms_token_is_refused(http: HttpWorld, function: str, token: str) -> None:
    reply = http.event(function, Event(events.SWEEP_DUE, "1"), token=token)
    assert (reply.status, reply.problem) == (401, "unauthenticated")
    assert EVENT_TOKEN not in reply.body.decode()


def test_a_users_token_does_not_carry_an_event(http: HttpWorld) -> None:
    assert http.event("anchor", Event(events.ASSET_REGISTERED, "1"), token=http.token()).problem == "unauthenticated"


@pytest.mark.parametrize("function", TAKERS)
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/cloudevents+json", b""),
        ("application/cloudevents+json", b"{"),
        ("application/cloudevents+json", b"[]"),
        ("application/cloudevents+json", b"null"),
        ("application/cloudevents+json", b"\xff\xfe"),
        ("application/cloudevents+json", b'{"specversion":"1.0","id":"1","source":"s"}'),
        ("application/cloudevents+json", b'{"specversion":"7.0","id":"1","source":"s","type":"t"}'),
        ("application/cloudevents+json", b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":[1]}'),
        ("application/cloudevents+json", b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":"x"}'),
        ("application/cloudevents+json", b'{"specversion":"1.0","id":"\\u0000","source":"s","type":"t"}'),
        ("application/cloudevents+json", b'{"specversion":"1.0","id":{},"source":"s","type":"t"}'),
        ("application/cloudevents+json", b'{"specversion":"1.0","id":"1","source":"s","type":"t","subject":{}}'),
        ("application/cloudevents+json", b'{"specversion":"1.0","id":"1","source":"s","type":""}'),
        ("application/cloudevents+json", b"[" * 100_000),
        ("application/cloudevents-batch+json", b"[]"),
    ],
)
def test_what_is_no_event_is_refused_for_good(http: HttpWorld, function: str, kind: str, body: bytes) -> None:
    headers = {"content-type": kind, "authorization": f"Bearer {EVENT_TOKEN}"}
    reply = http.call(function, "POST", "/", body, caller=None, headers=headers)
    assert (reply.status, reply.problem) == (400, "invalid"), reply


def test_a_post_without_an_event_to_an_event_function_is_refused_for_good(http: HttpWorld) -> None:
    headers = {"authorization": f"Bearer {EVENT_TOKEN}"}
    assert http.call("anchor", "POST", "/", {"a": 1}, caller=None, headers=headers).status == 400
    assert http.call("anchor", "GET", "/", caller=None).status == 405


@pytest.mark.parametrize(
    "data",
    [
        {"key": 5},
        {"key": "/buckets/"},
        {"key": "/buckets/polyshare-inbox/../../etc/passwd"},
        {"Records": 5},
        {"Records": [1, None, {"s3": 5}, {"s3": {"object": []}}, {"s3": {"object": {"key": 1}}}]},
        {"Records": [{"s3": {"object": {"key": "%00/%ff/x"}}}]},
        {"detail": {"object": {"key": ["x"]}}},
        {"detail": "x"},
    ],
)
def test_a_notification_of_any_shape_is_only_a_hint(http: HttpWorld, data: dict[str, object]) -> None:
    reply = http.event("register_dataset", Event(events.INBOX_CHANGED, "1", data=data))
    assert reply.status == 204, reply


def test_an_event_that_is_too_large_is_refused_without_reading_all_of_it(http: HttpWorld) -> None:
    headers = {"content-type": "application/cloudevents+json", "authorization": f"Bearer {EVENT_TOKEN}"}
    reply = http.call("sweep", "POST", "/", [b" " * 1024 * 1024] * 100, caller=None, headers=headers)
    assert (reply.status, reply.problem) == (413, "too-large")
    assert reply.taken <= 34 * 1024 * 1024


class FailingLedger:
    """A ledger whose node is away, or whatever else an operation meets."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> object:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "delivered", "dead"),
    [
        (Unavailable("the ledger's node does not answer", retry_after=7), 503, False, 0),
        (Misconfigured("POLYSHARE_LEDGER_KEY_FILE is missing"), 500, False, 0),
        (OSError("a bug"), 500, False, 0),
        (Conflict("never"), 400, True, 1),
        (NotFound("never"), 400, True, 1),
    ],
)
def test_the_broker_retries_what_may_work_later_and_sets_aside_what_never_will(
    http: HttpWorld, error: Exception, status: int, delivered: bool, dead: int
) -> None:
    http.world.dataset()
    http.use(ledger=lambda: FailingLedger(error))
    broker = Broker(http)
    assert broker.deliver("anchor", Event(events.ASSET_REGISTERED, "1")) is delivered
    assert broker.replies == [("anchor", status)]
    assert len(broker.dead) == dead
    reply = http.event("anchor", Event(events.ASSET_REGISTERED, "1"))
    assert reply.headers.get("retry-after") == ("7" if status == 503 else None)
    assert "a bug" not in json.dumps(reply.json)
    assert "LEDGER_KEY" not in json.dumps(reply.json)


def test_the_store_away_is_told_as_503(http: HttpWorld) -> None:
    def away() -> object:
        raise Unavailable("the store does not answer")

    http.world.store.put(Bucket.INBOX, "acme/digits/dataset.json", b"{}")
    http.use(store=away)
    reply = http.event("register_dataset", Event(events.INBOX_CHANGED, "1"))
    assert (reply.status, reply.problem, reply.headers["retry-after"]) == (503, "unavailable", "2")
