"""Nobody learns from an answer, or from its time, whether somebody else's private asset or bytes exist."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyshare.assets import Caller, Role
from polyshare.hashing import digest_bytes
from tests.unit.http_world import HttpWorld, Reply
from tests.world import ANONYMOUS, IMAGE

STRANGER = Caller("mallory", {"other": Role.ADMIN})
COLLEAGUE = Caller("bob", {"acme": Role.PUBLISHER})
RANDOM = "0199f3a1-5c3e-7b02-9c55-0d8f6f2f1a11"
SECRET = b"name,diagnosis\n" * 10


@pytest.fixture
def http(tmp_path: Path) -> HttpWorld:
    return HttpWorld(tmp_path)


def asks(http: HttpWorld, caller: Caller, reference: str) -> dict[str, Reply]:
    """Every way to name an asset."""
    at = "/" + reference.replace("/", "%2F")
    model = {"organisation": "other", "image": IMAGE, "dataset": reference}
    imported = {"organisation": "other", "files": [{"path": "a", "size": 0, "digest": str(digest_bytes(b""))}]}
    asked: dict[str, tuple[Any, ...]] = {
        "status": ("query_status", "GET", at, None),
        "fetch": ("fetch_asset", "GET", at, None),
        "urls": ("fetch_asset", "POST", at + "/urls", {"paths": ["a.csv"]}),
        "prove": ("prove", "GET", at, None),
        "lineage": ("catalogue", "GET", at + "/lineage", None),
    }
    if caller.subject:
        asked |= {
            "model": ("register_model", "POST", "/", model),
            "imported": ("register_model", "POST", "/imported", {**imported, "trained_on": [reference]}),
            "translate": ("translate", "POST", "/", {"model": reference}),
            "confirm": ("register_dataset", "POST", at + "/confirm", None),
            "grants": ("govern", "GET", at + "/grants", None),
            "share": ("govern", "POST", at + "/share", {"organisation": "other"}),
            "unshare": ("govern", "POST", at + "/unshare", {"organisation": "other"}),
            "visibility": ("govern", "POST", at + "/visibility", {"visibility": "public"}),
            "revoke": ("govern", "POST", at + "/revoke", {"reason": "x"}),
            "erase": ("govern", "POST", at + "/erase", {"confirm": reference}),
        }
    replies = {name: http.call(*call, caller=caller) for name, call in asked.items()}
    if caller.subject:
        replies["audit"] = http.call("govern", "GET", "/audit", caller=caller, query={"asset": reference})
    return replies


@pytest.mark.parametrize("caller", [STRANGER, COLLEAGUE, ANONYMOUS], ids=["stranger", "colleague", "anonymous"])
@pytest.mark.parametrize("named", [False, True], ids=["id", "name"])
def test_a_private_asset_and_none_at_all_are_answered_the_same(http: HttpWorld, caller: Caller, named: bool) -> None:
    held = http.world.dataset({"a.csv": SECRET}, name="private", visibility="private")
    there, nowhere = ("acme/private", "acme/nothing") if named else (held.id, RANDOM)
    http.world.settle()
    before = http.rows()
    absent = asks(http, caller, nowhere)
    for way, reply in asks(http, caller, there).items():
        assert reply.status == 404, (way, reply)
        assert reply.problem == "not-found"
        assert reply.headers.keys() == absent[way].headers.keys()
        assert reply.body.replace(there.encode(), b"?") == absent[way].body.replace(nowhere.encode(), b"?"), way
    assert http.rows() == before
    for listed in (http.call("catalogue", "GET", caller=caller, query={"q": "private"}),):
        assert listed.json["assets"] == []


def test_an_asset_is_not_found_by_its_content_by_who_may_not_read_it(http: HttpWorld) -> None:
    held = http.world.dataset({"a.csv": SECRET}, visibility="private")
    root = http.call("fetch_asset", "GET", f"/{held.id}").json["content"]["root"]
    assert [a["id"] for a in http.call("catalogue", "GET", f"/content/{root}").json["assets"]] == [held.id]
    for caller in (STRANGER, COLLEAGUE, ANONYMOUS):
        assert http.call("catalogue", "GET", f"/content/{root}", caller=caller).json == {"assets": [], "cursor": None}


def test_declaring_bytes_that_somebody_has_is_answered_as_for_bytes_that_nobody_has(http: HttpWorld) -> None:
    http.world.dataset({"a.csv": SECRET}, visibility="private")
    for caller, organisation in ((STRANGER, "other"), (COLLEAGUE, "acme")):
        told = []
        for data in (SECRET, SECRET[::-1]):
            file = {"path": "a.csv", "size": len(data), "digest": str(digest_bytes(data))}
            body = {"organisation": organisation, "files": [file]}
            reply = http.call("register_dataset", "POST", "/", body, caller=caller)
            upload = reply.json["id"]
            part = {"path": "a.csv", "sha256": digest_bytes(data).sha256.hex()}
            urls = http.call("register_dataset", "POST", f"/{upload}/urls", {"parts": [part]}, caller=caller)
            confirm = http.call("register_dataset", "POST", f"/{upload}/confirm", caller=caller)
            told.append((reply.status, reply.json["missing"], urls.json["urls"][0] is None, confirm.status))
        assert told == [(202, ["a.csv"], False, 409)] * 2


def test_a_private_asset_and_none_take_about_the_same_time(http: HttpWorld) -> None:
    held = http.world.dataset({f"{n}.csv": SECRET for n in range(50)}, name="private", visibility="private")
    token = http.token(STRANGER)

    def measure(ask: Callable[[str], Reply]) -> float:
        """How much longer the one takes than the other: the median of pairs, one right after the other."""
        ratios = []
        for _ in range(60):
            taken = []
            for reference in (held.id, RANDOM):
                began = time.process_time()
                assert ask(reference).status == 404
                taken.append(time.process_time() - began)
            ratios.append(taken[0] / taken[1])
        return statistics.median(ratios)

    for ask in (
        lambda ref: http.call("fetch_asset", "GET", f"/{ref}", token=token),
        lambda ref: http.call("query_status", "GET", f"/{ref}", token=token),
        lambda ref: http.call("govern", "POST", f"/{ref}/revoke", {"reason": "x"}, token=token),
    ):
        assert 0.7 < measure(ask) < 1.4


def test_a_parent_that_the_caller_may_not_read_is_withheld(http: HttpWorld) -> None:
    digits = http.world.dataset({"a.csv": SECRET}, name="secret-digits", visibility="private")
    model = http.world.imported(trained_on=[digits.id], visibility="public")
    shown = http.call("catalogue", "GET", f"/{model.id}/lineage", caller=STRANGER)
    assert [(a["withheld"], a["kind"]) for a in shown.json["assets"]] == [(False, "imported_model"), (True, "dataset")]
    fetched = http.call("fetch_asset", "GET", f"/{model.id}", caller=ANONYMOUS)
    for reply in (shown, fetched):
        for secret in (digits.id, "secret-digits", str(digest_bytes(SECRET))):
            assert secret not in reply.body.decode()
