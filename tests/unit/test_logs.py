"""What a function writes to its log: one JSON object an event, what it is about, and no secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyshare import logs
from polyshare.errors import Unavailable
from tests.unit.http_world import EVENT_TOKEN, HttpWorld

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Lines(logging.Handler):
    """Formats when it is told, as a handler on standard output does."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.Json())
        self.texts = list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    @property
    def read(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger, handler = logging.getLogger("polyshare"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def http(tmp_path: Path) -> HttpWorld:
    return HttpWorld(tmp_path)


def test_a_request_is_one_line_that_says_what_it_was_about(http: HttpWorld, lines: Lines) -> None:
    body = {"files": [{"path": "a", "size": 1, "digest": "sha256:" + "0" * 64}]}
    sent = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    asset = http.call("register_dataset", "POST", "/", body, headers=sent).json["id"]
    (line,) = lines.read
    assert line["message"] == "POST /"
    assert (line["function"], line["asset"], line["status"]) == ("register_dataset", asset, 202)
    assert line["trace_id"] == TRACE
    assert line["span_id"] != "b7ad6b7169203331"
    assert line["seconds"] >= 0
    assert line["severity"] == "INFO"


def test_a_refusal_says_why_and_probes_say_nothing(http: HttpWorld, lines: Lines) -> None:
    http.call("query_status", "GET", "/nothing/at/all")
    http.call("query_status", "GET", "/acme%2Fx")
    assert [(line["status"], "problem" in line) for line in lines.read] == [(404, True), (404, True)]
    assert lines.read[1]["asset"] == "acme/x"
    for path in ("/healthz", "/readyz"):
        http.call("query_status", "GET", path, caller=None)
    assert len(lines.texts) == 2


def test_an_event_is_one_line_with_its_own_trace(http: HttpWorld, lines: Lines) -> None:
    from polyshare.events import ASSET_REGISTERED, Event

    event = Event(ASSET_REGISTERED, "e1", subject="some-asset", traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    http.event("anchor", event, traceparent="00-" + "1" * 32 + "-b7ad6b7169203331-01")
    line = lines.read[-1]
    assert line["message"] == f"event {ASSET_REGISTERED}"
    assert (line["event"], line["asset"], line["trace_id"]) == ("e1", "some-asset", TRACE)


def test_what_goes_wrong_inside_is_on_one_line_too(http: HttpWorld, lines: Lines) -> None:
    def broken() -> Any:
        raise RuntimeError("GET https://s3.example.org/x?X-Amz-Signature=abcdef0123&X-Amz-Credential=AKIA failed")

    body = {"files": [{"path": "a", "size": 1, "digest": "sha256:" + "0" * 64}]}
    http.use(store=broken)
    assert http.call("register_dataset", "POST", "/", body).status == 500
    assert not any("\n" in text for text in lines.texts)
    assert "Traceback" in lines.read[0]["error"]
    assert "abcdef0123" not in "".join(lines.texts)
    assert "AKIA" not in "".join(lines.texts)


def test_no_line_has_a_token_a_query_or_a_body(http: HttpWorld, lines: Lines) -> None:
    token = http.token()
    secret = "diagnosis-of-patient-7"
    http.call("catalogue", "GET", query={"q": secret}, token=token)
    http.call("register_dataset", "POST", "/", {"metadata": {"note": secret}, "files": []}, token=token)
    http.call("complete_job", "POST", "/j/start", {"attempt": 1}, headers={"authorization": f"Bearer {secret}"})
    http.event("anchor", _event(), token="wrong-" + secret)
    http.event("anchor", _event())
    written = "".join(lines.texts)
    assert len(lines.texts) == 5
    for hidden in (token, secret, EVENT_TOKEN):
        assert hidden not in written


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("sent Authorization: Bearer eyJh.b.c to x", "eyJh.b.c"),
        ("postgresql://polyshare:hunter2@db/polyshare", "hunter2"),
        ("GET /b/k?X-Amz-Algorithm=A&X-Amz-Signature=0a1b2c&X-Amz-Expires=9", "0a1b2c"),
        ("connecting with password=hunter2 host=db", "hunter2"),
    ],
)
def test_credentials_in_somebody_elses_message_are_struck_out(text: str, hidden: str) -> None:
    cleaned = logs.without_secrets(text)
    assert hidden not in cleaned
    assert "***" in cleaned


def test_a_line_of_a_terminal_is_plain() -> None:
    record = logging.LogRecord("polyshare", logging.INFO, "", 0, "GET %s", ("/",), None)
    record.fields = {"status": 200}
    assert logs.Plain("%(levelname)s %(message)s").format(record) == "INFO GET / status=200"


def test_warnings_of_sweep_belong_to_its_event(http: HttpWorld, lines: Lines) -> None:
    def down() -> Any:
        raise Unavailable("the store is down")

    http.use(store=down)
    http.event("sweep", _event("polyshare.sweep.due"))
    warned = [line for line in lines.read if line["severity"] == "WARNING"]
    assert warned
    assert {line["trace_id"] for line in warned} == {lines.read[-1]["trace_id"]}


def _event(kind: str = "polyshare.asset.registered") -> Any:
    from polyshare.events import Event

    return Event(kind, "1", subject="s")
