"""Each function by its own under functions-framework: every example request, its answer and the events that follow."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from jsonschema import Draft202012Validator

from polyshare import events, openapi
from polyshare.assets import Caller, Role
from polyshare.catalogue.outbox import deliver
from polyshare.catalogue.tables import jobs, outbox
from polyshare.ports import Signed
from tests.unit.http_world import EVENT_TOKEN, FOLDER, Broker, HttpWorld, path_of
from tests.world import ADMIN, ALICE, ANONYMOUS, READER

DOCUMENT = openapi.document()
EXAMPLES = [
    (function, path.stem)
    for function in openapi.FUNCTIONS
    if function != "mlaas"  # tests/contract/test_mlaas.py sends those
    for path in sorted((FOLDER / function / "requests").iterdir())
]
CALLERS = {"publisher": ALICE, "admin": ADMIN, "reader": READER, "anyone": ANONYMOUS}
FOLLOWS = {  # the events that a request brings about
    ("register_dataset", "confirm_upload"): [events.ASSET_REGISTERED],
    ("register_model", "post"): [events.ASSET_REGISTERED, events.JOB_READY],
    ("register_model", "confirm_upload"): [events.ASSET_REGISTERED],
    ("translate", "post"): [events.ASSET_REGISTERED, events.JOB_READY],
    ("govern", "revoke"): [events.ASSET_REVOKED],
    ("complete_job", "complete"): [events.RESULT_RECORDED],
}


@dataclass
class Prepared:
    """A world with a dataset, a trained model and a model whose job waits, all of acme, and an upload that is open."""

    http: HttpWorld
    upload: Mapping[str, str]  # by function
    job: str
    job_token: str
    dataset: str
    translation: str


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    http = HttpWorld(tmp_path)
    world = http.world
    digits = world.dataset({"train/a.csv": b"1,2\n", "test/b.csv": b"3,4\n"}, name="digits")
    world.govern("share", digits.id, {"organisation": "third"})
    classifier = world.model(digits.id, name="classifier", translate=False, parameters={"trees": 3})
    world.settle()
    assert http.call("query_status", "GET", f"/{classifier.id}").json["state"] == "trained"
    converted = world.imported(metadata={"framework": "scikit-learn"})
    world.settle()
    translation = http.call("translate", "POST", "/", {"model": converted.id}).json["id"]
    brought = world.imported(name="brought", metadata={"framework": "scikit-learn"}, trained_on=[digits.id])
    assert brought.name == "brought"
    world.settle()
    upload = {}
    flowers = openapi.example("register_dataset", "post")
    for function, path, body in (
        ("register_dataset", "/", {**flowers["body"], "name": "pending", "metadata": {}}),
        ("register_model", "/imported", {"organisation": "acme", "files": flowers["body"]["files"]}),
    ):
        upload[function] = http.call(function, "POST", path, body).json["id"]
    waiting = world.model(digits.id, translate=False)
    world.deliver()
    (job,) = world.rows(sa.select(jobs).where(jobs.c.asset == waiting.id))
    (queued,) = (held for key, held in world.runner.queue.items() if key[0] == job.id)
    assert isinstance(queued.token, str)
    world.deliver()
    return Prepared(http, upload, job.id, queued.token, digits.id, translation)


def send(prepared: Prepared, function: str, name: str, asked: Mapping[str, Any]) -> Any:
    http, values, body = prepared.http, dict(asked.get("path", {})), asked.get("body")
    if name == "event":
        event = events.Event(body["type"], body["id"], body.get("subject", ""), body["data"])
        return http.event(function, event)
    if "id" in values:
        values["id"] = prepared.upload[function]
    if "job" in values:
        values["job"] = prepared.job
    if name == "erase":
        values, body = {"ref": prepared.dataset}, {"confirm": prepared.dataset}
    if (function, name) == ("translate", "conform"):
        values["ref"] = prepared.translation
        document = http.call("fetch_asset", "GET", f"/{prepared.translation}").json
        digests = {file["path"]: file["digest"] for file in document["result"]["content"]["files"]}
        body = {**body, "onnx": digests["model.onnx"], "certificate": digests["certificate.json"]}
    if name == "confirm_upload":
        put_missing(prepared, function)
    operation = f"{function}.{name}"
    path, method = next(
        (path, method)
        for path, item in DOCUMENT["paths"].items()
        for method, found in item.items()
        if found["operationId"] == operation
    )
    return http.call(
        function,
        method.upper(),
        path_of(path.removeprefix(f"/{function}") or "/", values),
        body,
        caller=CALLERS.get(asked["caller"], ANONYMOUS),
        token={"job": prepared.job_token, "event": EVENT_TOKEN}.get(asked["caller"], ""),
        headers=asked.get("headers", {}),
        query=asked.get("query", {}),
    )


def put_missing(prepared: Prepared, function: str) -> None:
    """Upload the files of the example."""
    contents = {"train/part-1.csv": b"5.1,3.5,0\n6.2,2.9,1\n", "test/part-1.csv": b"5.9,3.0,1\n"}
    for path, data in contents.items():
        body = {"parts": [{"path": path, "sha256": sha256(data).hexdigest()}]}
        (signed,) = prepared.http.call(function, "POST", f"/{prepared.upload[function]}/urls", body).json["urls"]
        assert prepared.http.store.request("PUT", Signed(signed["url"], signed["headers"]), data) == 200


def conforms(operation: str, status: int, value: Any) -> None:
    """Whether an answer is what the OpenAPI document says of it."""
    (found,) = (o for item in DOCUMENT["paths"].values() for o in item.values() if o["operationId"] == operation)
    content = found["responses"][str(status)].get("content")
    if content is None:
        assert value is None
        return
    schema = {**content["application/json"]["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize(("function", "name"), EXAMPLES, ids=[f"{f}.{n}" for f, n in EXAMPLES])
def test_the_example_is_answered_as_it_says_and_the_events_follow(prepared: Prepared, function: str, name: str) -> None:
    asked = openapi.example(function, name)
    before = {row.id for row in prepared.http.world.rows(sa.select(outbox))}
    reply = send(prepared, function, name, asked)
    assert reply.status == asked["status"], reply
    if name != "event":
        assert reply.headers.get("content-type") == (None if reply.status == 204 else "application/json")
        conforms(f"{function}.{name}", reply.status, reply.json if reply.body else None)
    came = [row.type for row in prepared.http.world.rows(sa.select(outbox)) if row.id not in before]
    if function not in ("anchor", "run_job", "sweep"):
        assert sorted(came) == sorted(FOLLOWS.get((function, name), []))


def test_every_operation_has_an_example(prepared: Prepared) -> None:
    operations = {
        o["operationId"] for p, item in DOCUMENT["paths"].items() if "/mlaas/" not in p for o in item.values()
    }
    assert operations - {f"{function}.{name}" for function, name in EXAMPLES} == set()


def test_the_whole_path_runs_over_http_and_a_broker_of_knatives_rule(tmp_path: Path) -> None:
    http = HttpWorld(tmp_path)
    broker = Broker(http)
    http.use(bus=broker)
    digits = http.world.dataset(name="digits")
    model = http.world.model(digits.id, name="classifier")
    http.world.clock.time += 1
    for _ in range(10):
        while deliver(http.world.ports):
            pass
        http.world.runner.run_next()
        http.clock.time += 1
    status = http.call("query_status", "GET", f"/{model.id}", caller=READER).json
    assert status["state"] == "trained"
    assert status["anchored"]
    assert status["result_anchored"]
    assert broker.dead == []
    assert {status for _, status in broker.replies} == {204}
    shown = http.call("prove", "GET", f"/{model.id}", caller=READER).json
    assert shown["address"] == model.address
    assert shown["anchored"]


def test_a_status_that_is_waited_for_comes_as_soon_as_there_is_news(tmp_path: Path) -> None:
    http = HttpWorld(tmp_path)
    digits = http.world.dataset(name="digits")
    known = http.call("query_status", "GET", f"/{digits.id}").json
    assert not known["finished"]
    timer = threading.Timer(0.5, http.world.deliver)
    timer.start()
    began = time.monotonic()
    news = http.call("query_status", "GET", f"/{digits.id}", query={"wait": "20", "since": str(known["cursor"])}).json
    timer.join()
    assert news["anchored"]
    assert news["cursor"] > known["cursor"]
    assert time.monotonic() - began < 10


def test_a_status_without_news_is_answered_when_the_wait_is_over(tmp_path: Path) -> None:
    http = HttpWorld(tmp_path)
    digits = http.world.dataset()
    known = http.call("query_status", "GET", f"/{digits.id}").json
    again = http.call("query_status", "GET", f"/{digits.id}", query={"wait": "0.5", "since": str(known["cursor"])})
    assert again.json == known


def test_head_is_answered_as_get_and_options_says_what_is_allowed(prepared: Prepared) -> None:
    http = prepared.http
    assert http.call("query_status", "HEAD", "/acme%2Fdigits").status == 200
    assert http.call("query_status", "HEAD", "/acme%2Fnothing").status == 404
    assert http.call("query_status", "HEAD", "/healthz", caller=None).status == 200
    options = http.call("query_status", "OPTIONS", "/acme%2Fdigits", caller=None)
    assert (options.status, options.headers["allow"], options.body) == (204, "GET, HEAD, OPTIONS", b"")
    wrong = http.call("query_status", "POST", "/acme%2Fdigits", {})
    assert (wrong.status, wrong.problem, wrong.headers["allow"]) == (405, "method-not-allowed", "GET, HEAD, OPTIONS")
    for method in ("PUT", "PATCH", "DELETE"):
        assert http.call("govern", method, "/acme%2Fdigits/share", {}).problem == "method-not-allowed"


def test_readers_may_look_and_not_register(prepared: Prepared) -> None:
    http = prepared.http
    body = openapi.example("register_dataset", "post")["body"]
    reply = http.call("register_dataset", "POST", "/", body, caller=READER)
    assert (reply.status, reply.problem) == (403, "forbidden")
    assert "publisher" in reply.detail
    assert "acme" in reply.detail
    nobody = Caller("nobody", {"other": Role.ADMIN})
    assert http.call("register_dataset", "POST", "/", body, caller=nobody).problem == "forbidden"
