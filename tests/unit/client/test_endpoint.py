"""Calls to functions: problems become errors again, and what may pass is tried again."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from polyshare import api, errors
from polyshare.client import Client, Profile


def answer(mishap: dict[str, Any], code: int, document: object, **headers: str) -> Any:
    return lambda handler, body: mishap["reply"](handler, code, json.dumps(document).encode(), headers)


@pytest.mark.parametrize("kind", [errors.NotFound, errors.Forbidden, errors.Conflict, errors.Erased, errors.Mismatch])
def test_a_problem_document_is_raised_as_the_error_it_was(
    registry: Any, client: Client, mishap: dict[str, Any], kind: type[errors.PolyshareError]
) -> None:
    code, document = mishap["problem"](kind.status, kind.slug, "what and why")
    registry.mishaps.append(answer(mishap, code, document))
    with pytest.raises(kind, match="what and why"):
        client.document("x")


def test_unavailable_is_tried_again_as_the_server_asks(registry: Any, client: Client, mishap: dict[str, Any]) -> None:
    code, document = mishap["problem"](503, "unavailable", "later")
    registry.mishaps += [answer(mishap, code, document, **{"retry-after": "0"})] * 3
    listing = {"assets": [], "cursor": None}
    registry.mishaps.append(answer(mishap, 200, listing))
    assert client.list() == api.Listing([], None)


def test_a_reference_is_one_segment_of_the_path(registry: Any, client: Client) -> None:
    with pytest.raises(errors.NotFound):
        client.lineage("org/name@3")
    assert registry.requests == [("GET", "/catalogue/org%2Fname%403/lineage")]


def test_what_is_no_registry_is_told_so(registry: Any, client: Client, mishap: dict[str, Any]) -> None:
    registry.mishaps.append(lambda handler, body: mishap["reply"](handler, 404, b"<html>"))
    with pytest.raises(errors.PolyshareError, match="is it a polyshare registry"):
        client.list()
    registry.mishaps.append(lambda handler, body: mishap["reply"](handler, 200, b"<html>"))
    with pytest.raises(errors.Unavailable, match="does not understand"):
        client.list()


def test_nothing_listening_says_how_to_start_it() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Client(url=f"http://127.0.0.1:{port}/{{function}}") as client, pytest.raises(errors.Unavailable) as told:
        client.list()
    assert "polyshare up" in told.value.message


def test_the_profile_is_read_and_the_environment_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    ledger = {
        "rpc": "http://n",
        "chain_id": 7,
        "registry": "0x" + "1" * 40,
        "definitions": {"dataset": "0x" + "2" * 40},
    }
    path.write_text(json.dumps({"url": "http://a/{function}", "token": "t", "ledger": ledger, "organisation": "o"}))
    path.chmod(0o600)
    profile = Profile.read({"POLYSHARE_CONFIG": str(path)})
    root = profile.trust_root()
    assert root is not None
    assert (profile.url, profile.token, profile.organisation) == ("http://a/{function}", "t", "o")
    assert (root.chain_id, root.definitions) == (7, {1: bytes.fromhex("2" * 40)})
    other = Profile.read(
        {"POLYSHARE_CONFIG": str(path), "POLYSHARE_URL": "http://b/{function}", "POLYSHARE_TOKEN": "u"}
    )
    assert (other.url, other.token) == ("http://b/{function}", "u")
    path.chmod(0o644)
    with pytest.raises(errors.Misconfigured, match="chmod 600"):
        Profile.read({"POLYSHARE_CONFIG": str(path)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("content", ["", "[]", "{", '{"url": "http://x"}', "{}"])
def test_a_bad_profile_says_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(errors.Misconfigured):
        Profile.read({"POLYSHARE_CONFIG": str(path)})
