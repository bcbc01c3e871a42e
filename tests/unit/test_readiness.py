"""A function says whether it can serve, and what it waits for; never why."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polyshare import openapi, readiness
from polyshare.bootstrap import Ports
from tests.unit.http_world import HttpWorld, Reply


@pytest.fixture
def http(tmp_path: Path) -> HttpWorld:
    world = HttpWorld(tmp_path)
    (tmp_path / "writer.key").write_text("0x01")
    set_(world, ledger_key_file=str(tmp_path / "writer.key"))
    return world


def set_(http: HttpWorld, **settings: Any) -> None:
    http.use(settings=replace(http.world.ports.settings, **settings))


def ready(http: HttpWorld, function: str = "register_dataset") -> Reply:
    return http.call(function, "GET", "/readyz", caller=None)


@pytest.mark.parametrize("function", openapi.FUNCTIONS)
def test_every_function_is_ready_when_all_is_there(http: HttpWorld, function: str) -> None:
    assert (ready(http, function).status, ready(http, function).body) == (200, b"ready")
    assert http.call(function, "GET", "/healthz", caller=None).status == 200


def test_what_is_missing_is_named_and_not_why(http: HttpWorld, tmp_path: Path) -> None:
    set_(http, trust_root={}, event_token_file=str(tmp_path / "no-such-token"))
    reply = ready(http)
    assert (reply.status, reply.body) == (503, b"waits for trust_root, event_token_file")
    assert str(tmp_path).encode() not in reply.body
    assert http.call("register_dataset", "GET", "/healthz", caller=None).status == 200


def test_only_anchor_waits_for_the_ledgers_key(http: HttpWorld) -> None:
    set_(http, ledger_key_file="")
    assert ready(http, "anchor").body == b"waits for ledger_key_file"
    assert ready(http, "prove").status == 200


def test_anchor_waits_for_no_file_where_a_kms_keeps_the_key(http: HttpWorld) -> None:
    set_(http, ledger_key_file="", ledger_kms_key="alias/writer")
    assert readiness.Readiness(["ledger_key_file"]).lacking(lambda: http.world.ports) == []


def test_a_function_is_ready_again_when_it_is_mended(http: HttpWorld) -> None:
    whole = http.world.ports.settings
    set_(http, trust_root={})
    assert ready(http).status == 503
    http.use(settings=whole)
    assert ready(http).status == 503
    time.sleep(readiness.KNOWN_SECONDS + 0.1)
    assert ready(http).status == 200


def test_a_database_of_an_older_release_is_waited_for(http: HttpWorld, tmp_path: Path) -> None:
    import sqlite3

    def say(revision: str) -> None:
        with sqlite3.connect(tmp_path / "catalogue.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))

    say("0001")
    assert ready(http).body == b"waits for database"
    say("9999")  # a newer release is being rolled out
    assert ready(http, "govern").status == 200


def test_probes_look_no_more_than_once_in_a_while(http: HttpWorld) -> None:
    looked: list[Ports] = []
    asked = readiness.Readiness([])

    def ports() -> Ports:
        looked.append(http.world.ports)
        return looked[-1]

    assert [asked.lacking(ports) for _ in range(5)] == [[]] * 5
    assert len(looked) == 1
