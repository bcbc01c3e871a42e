"""Each store's notification names the folder that changed, and no shape of one raises."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyshare.events import Event
from polyshare.notifications import folder_of, handshake
from polyshare.operations.inbox import prefix_of
from tests.unit.http_world import EVENT_TOKEN, HttpWorld
from tests.world import ALICE

VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "notifications").glob("*.json"))
NAMES = st.sampled_from(
    [
        "Records",
        "s3",
        "object",
        "key",
        "detail",
        "message",
        "attributes",
        "objectId",
        "data",
        "url",
        "api",
        "subject",
        "Message",
        "Messages",
        "Body",
        "body",
        "kind",
        "name",
        "eventType",
        "validationCode",
    ]
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["/buckets/", "/blobServices//blobs/", "objects/", "http://[", "%ff%", "\ud800/\0/x", "[" * 5000]),
)
SHAPES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.just("storage#object")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=20,
)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_recorded_notification_names_its_folder(path: Path) -> None:
    recorded = json.loads(path.read_text())
    assert folder_of(recorded["subject"], recorded["body"]) == recorded["folder"]


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_recorded_notification_that_comes_as_an_event_leads_to_its_folder(path: Path) -> None:
    recorded = json.loads(path.read_text())
    if isinstance(recorded["body"], dict):
        event = Event("of.the.store", "1", recorded["subject"], recorded["body"])
        assert prefix_of(event) == recorded["folder"]


def test_only_event_grids_validation_is_answered_with_its_code() -> None:
    for path in VECTORS:
        answer = handshake(json.loads(path.read_text())["body"])
        expected = {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}
        assert answer == (expected if path.stem == "azure_validation" else None)


@given(subject=TEXTS, body=SHAPES)
@settings(deadline=None, max_examples=300)
def test_no_shape_raises_and_what_is_named_is_one_folder_or_none(subject: str, body: Any) -> None:
    folder = folder_of(subject, body)
    assert folder == "" or folder.count("/") == 2
    folder.encode()
    handshake(body)


def test_an_envelope_in_itself_without_end_is_let_go() -> None:
    body: Any = {"Records": [{"s3": {"object": {"key": "acme/digits/x"}}}]}
    for _ in range(50):
        body = {"Message": json.dumps(body)} if len(str(body)) < 100_000 else body
    assert folder_of("", body) == ""
    nested: Any = []
    for _ in range(10_000):
        nested = [nested]
    assert folder_of("", nested) == ""


@pytest.mark.parametrize("key", ["../../etc/passwd", "acme/digits", "ACME/digits/x", "acme//x", "\0/\0/\0", "a/b/"])
def test_a_key_that_is_in_no_folder_of_an_organisation_looks_everywhere(key: str) -> None:
    assert folder_of("", {"Records": [{"s3": {"object": {"key": key}}}]}) == ""


def test_a_store_s_own_notification_makes_the_drop_a_dataset_and_event_grid_is_answered(tmp_path: Path) -> None:
    http = HttpWorld(tmp_path)
    http.world.drop("acme/digits/", {"a.csv": b"1\n"})
    basic = {"authorization": "Basic " + base64.b64encode(f"store:{EVENT_TOKEN}".encode()).decode()}
    for name, status in (("azure_validation", 200), ("azure_event_grid", 204), ("minio", 204)):
        body = json.loads((VECTORS[0].parent / f"{name}.json").read_text())["body"]
        reply = http.call("register_dataset", "POST", "/notifications", body, caller=None, headers=basic)
        assert reply.status == status, reply
        assert not reply.body or reply.json["validationResponse"].startswith("512d38b6")
    http.world.settle()
    assert http.call("query_status", "GET", "/acme%2Fdigits").json["version"] == 1
    refused = http.call("register_dataset", "POST", "/notifications", body, caller=ALICE)
    assert refused.problem == "unauthenticated"
