"""A function in a process of its own, as its image runs it: it tells whether it is ready, and ends losing nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from polyshare.auth import AUDIENCE
from polyshare.catalogue import Catalogue, migrate, tables
from polyshare.events import ASSET_REGISTERED, Event
from polyshare.hashing import digest_bytes
from polyshare.ledger.record import trust_root_document
from polyshare.ports import Bucket
from polyshare.stack import weed
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout
from polyshare.stack.listening import inner_ports
from polyshare.stack.processes import Supervisor
from polyshare.store.keys import Given
from polyshare.store.s3 import S3Store
from tests.contract.conftest import MakeDatabase
from tests.contract.ledger_world import Assets, chain, free_port, states

ISSUER, TOKEN = "https://issuer.example.org", "the-platforms-own-token"
BYTES = b"1,2\n3,4\n"


@dataclass
class Platform:
    """What functions need besides store and ledger, in a folder."""

    folder: Path
    settings: dict[str, str]
    bearer: str

    @contextmanager
    def serve(self, function: str, **environ: str) -> Iterator[Served]:
        port, log = free_port(), self.folder / f"{function}.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("POLYSHARE_", "OTEL_"))}
        named = {f"POLYSHARE_{name.upper()}": value for name, value in self.settings.items()}
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "polyshare.serve"],
                env={**kept, **named, "FUNCTION_TARGET": function, "PORT": str(port), **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            served = Served(f"http://127.0.0.1:{port}", process, log)
            served.wait()
            yield served
        finally:
            process.kill()
            process.wait(timeout=10)


@dataclass
class Served:
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"{self.url}/healthz").text == "ok"
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < until, self.log.read_text()
                time.sleep(0.05)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def event(self, **headers: str) -> httpx.Response:
        sent, body = Event(ASSET_REGISTERED, "1", subject="s").structured()
        sent["authorization"] = f"Bearer {TOKEN}"
        return httpx.post(self.url, content=body, headers={**sent, **headers}, timeout=60)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    key = ECKey.generate_key("P-256", {"kid": "first"})
    (tmp_path / "jwks.json").write_text(json.dumps(KeySet([key]).as_dict(private=False)))
    (tmp_path / "token").write_text(TOKEN)
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 3600, "orgs": {"acme": "publisher"}}
    root = {"chain_id": 1, "registry": "0x" + "11" * 20, "definitions": dict.fromkeys("1234", "0x" + "22" * 20)}
    settings = {
        "database": f"sqlite:///{tmp_path}/catalogue.sqlite",
        "s3_endpoint": "http://127.0.0.1:1",
        "s3_access_key_file": str(tmp_path / "token"),
        "s3_secret_key_file": str(tmp_path / "token"),
        "functions_url": "http://127.0.0.1:1/{function}",
        "event_token_file": str(tmp_path / "token"),
        "jwt_issuer": ISSUER,
        "jwks_file": str(tmp_path / "jwks.json"),
        "trust_root": json.dumps(root),
    }
    return Platform(tmp_path, settings, str(jwt.encode({"alg": "ES256", "kid": "first"}, claims, key)))


@contextmanager
def seaweed(folder: Path) -> Iterator[tuple[int, Keyring]]:
    """A real store with its buckets, its port and its keys."""
    layout = Layout(folder / "stack")
    layout.make()
    keyring = Keyring(layout)
    keyring.make()
    ports = inner_ports(layout, weed.PORTS)
    supervisor = Supervisor(layout.log)
    try:
        supervisor.start(weed.service(layout, keyring, ports, "http://127.0.0.1:1/{function}"))
        buckets = {Bucket(name): bucket for name, bucket in weed.BUCKETS.items()}
        keys = Given(keyring.read("s3_access_key"), keyring.read("s3_secret_key"))
        store = S3Store(endpoint=weed.endpoint(ports), region=weed.REGION, keys=keys, buckets=buckets)
        store.create_buckets()
        yield int(weed.endpoint(ports).rpartition(":")[2]), keyring
    finally:
        supervisor.stop("store")
        weed.remove_sockets(ports)


class Gate:
    """Carries TCP to a port; a chunk that has the words stays until the gate is opened."""

    def __init__(self, port: int, words: bytes) -> None:
        self._to, self._words = port, words
        self.reached, self.opened = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._to))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            if self._words in data:
                self.reached.set()
                self.opened.wait(60)
            target.sendall(data)
        target.close()


@contextmanager
def taker() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A function that takes every event; its URL and the events."""
    taken: list[dict[str, Any]] = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{{function}}", taken
    server.shutdown()


def declare(served: Served, headers: Mapping[str, str], store: int) -> str:
    """Declare a dataset and upload its bytes; its id."""
    digest = str(digest_bytes(BYTES))
    declared = {"files": [{"path": "a.csv", "size": len(BYTES), "digest": digest}], "name": "digits"}
    answer = httpx.post(served.url, json=declared, headers=headers)
    assert answer.status_code == 202, answer.text
    (signed,) = answer.json()["urls"].values()
    assert f":{store}/" in signed["url"]
    put = httpx.put(signed["url"], content=BYTES, headers=signed["headers"])
    assert put.status_code == 200, put.text
    return str(answer.json()["id"])


def test_told_to_end_in_the_middle_of_a_registration_it_finishes_it(platform: Platform) -> None:
    with seaweed(platform.folder) as (store, keyring), taker() as (functions_url, taken):
        gate = Gate(store, b"PUT /" + weed.BUCKETS["journal"].encode())
        platform.settings |= {
            "s3_endpoint": f"http://127.0.0.1:{gate.port}",
            "s3_public_endpoint": f"http://127.0.0.1:{store}",
            "s3_access_key_file": str(keyring.path("s3_access_key")),
            "s3_secret_key_file": str(keyring.path("s3_secret_key")),
            **{f"bucket_{name}": bucket for name, bucket in weed.BUCKETS.items()},
            "functions_url": functions_url,
        }
        headers = {"authorization": f"Bearer {platform.bearer}"}
        with platform.serve("register_dataset") as served:
            asset = declare(served, headers, store)
            answers: list[httpx.Response] = []
            confirming = threading.Thread(
                target=lambda: answers.append(httpx.post(f"{served.url}/{asset}/confirm", headers=headers, timeout=60))
            )
            confirming.start()
            assert gate.reached.wait(30), served.log.read_text()
            served.process.send_signal(signal.SIGTERM)
            refused_by = time.monotonic() + 5
            while True:
                try:
                    refused = httpx.get(f"{served.url}/readyz")
                    assert refused.status_code == 503 or time.monotonic() < refused_by
                except httpx.ConnectError:
                    break
            assert served.process.poll() is None
            gate.opened.set()
            confirming.join(30)
            assert [(answer.status_code, answer.json()["id"]) for answer in answers] == [(201, asset)]
            assert served.process.wait(30) == 0
            assert served.lines()[-1]["message"] == "ended"
        assert [(event["type"], event["subject"]) for event in taken] == [(ASSET_REGISTERED, asset)]
        catalogue = Catalogue(platform.settings["database"])
        with catalogue.reading() as connection:
            assert connection.scalar(sa.select(tables.assets.c.state)) == "registered"
            assert connection.scalar(sa.select(sa.func.count()).select_from(tables.outbox)) == 0
        written = served.log.read_text()
        for secret in (TOKEN, platform.bearer, keyring.read("s3_secret_key"), "X-Amz-Signature"):
            assert secret not in written


def test_an_event_that_nobody_takes_at_the_end_is_left_to_sweep(platform: Platform) -> None:
    catalogue = Catalogue(platform.settings["database"])
    with platform.serve("anchor") as served:
        with catalogue.transaction() as connection:
            row = {"id": "e", "type": ASSET_REGISTERED, "subject": "s", "data": {}, "at": 0.0, "due": 0.0}
            connection.execute(tables.outbox.insert().values(row))
        assert served.event().status_code == 204  # wakes the relay
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
    with catalogue.reading() as connection:
        left = connection.execute(sa.select(tables.outbox)).one()
    assert left.attempts >= 1


def test_told_to_end_in_the_middle_of_anchoring_it_gives_its_lease_back(platform: Platform) -> None:
    catalogue = Catalogue(platform.settings["database"])
    with chain(platform.folder / "ledger") as ledger:
        platform.settings |= {
            "ledger_rpc": ledger.rpc.url,
            "ledger_key_file": str(ledger.folder.writer_key),
            "trust_root": json.dumps(trust_root_document(ledger.trust_root)),
        }
        assets = Assets(ledger.trust_root)
        entry = assets.record(parents=0)
        assets.want(entry)
        assets.fill(catalogue)
        nonce = int(ledger.rpc.call("eth_getTransactionCount", "0x" + ledger.writer.address.hex(), "latest"), 16)
        ledger.rpc.call("evm_setAutomine", False)
        with platform.serve("anchor") as served:
            answers: list[httpx.Response] = []
            anchoring = threading.Thread(target=lambda: answers.append(served.event()))
            anchoring.start()
            until = time.monotonic() + 30
            while not _count(catalogue, tables.transactions):
                assert time.monotonic() < until, served.log.read_text()
                time.sleep(0.05)
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(20) == 0
            anchoring.join(10)
            assert (answers[0].status_code, answers[0].headers["retry-after"]) == (503, "1")
        with catalogue.reading() as connection:
            assert connection.scalar(sa.select(tables.leases.c.expires)) == 0
        ledger.rpc.call("evm_setAutomine", True)
        ledger.rpc.call("evm_mine")
        with platform.serve("anchor") as served:
            assert served.event().status_code == 204
        assert set(states(catalogue).values()) == {"done"}
        after = int(ledger.rpc.call("eth_getTransactionCount", "0x" + ledger.writer.address.hex(), "latest"), 16)
        assert after - nonce == 1
        assert ledger.ledger().asset(assets.address(entry)).code


def _count(catalogue: Catalogue, table: sa.Table) -> int:
    with catalogue.reading() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_a_waiting_client_is_answered_at_once_when_the_process_ends(platform: Platform) -> None:
    catalogue = Catalogue(platform.settings["database"])
    with catalogue.transaction() as connection:
        row = {"id": "0199f3a1-5c3e-7b02-9c55-0d8f6f2f1a11", "kind": 1, "organisation": "acme", "owner": "alice"}
        connection.execute(
            tables.assets.insert().values(visibility="public", state="registered", created=1.0, fields={}, **row)
        )
    with platform.serve("query_status") as served:
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{served.url}/{row['id']}?wait=30&since=0", timeout=60))
        )
        asking.start()
        time.sleep(1.5)
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
        asking.join(10)
        assert answers[0].status_code == 200
        assert time.monotonic() - began < 5


def test_it_waits_for_a_database_that_is_not_migrated(platform: Platform, empty_database: MakeDatabase) -> None:
    url = empty_database()
    if not url.startswith("postgresql"):
        pytest.skip("SQLite's tables are made when they are first needed")
    platform.settings["database"] = url
    with platform.serve("catalogue") as served:
        assert httpx.get(f"{served.url}/readyz").text == "waits for database"
        migrate.upgrade(url)
        until = time.monotonic() + 10
        while httpx.get(f"{served.url}/readyz").status_code != 200:
            assert time.monotonic() < until, served.log.read_text()
            time.sleep(0.2)
        assert "not migrated" in served.lines()[0]["message"] or "revision None" in served.lines()[0]["message"]


@pytest.mark.parametrize(
    ("environ", "named"),
    [({"FUNCTION_TARGET": "no_such"}, "FUNCTION_TARGET is 'no_such'"), ({"PORT": "http"}, "PORT is 'http'")],
)
def test_it_says_what_is_set_wrongly(environ: dict[str, str], named: str) -> None:
    given = {**os.environ, "FUNCTION_TARGET": "catalogue", **environ}
    done = subprocess.run(
        [sys.executable, "-m", "polyshare.serve"], env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 78
    assert named in json.loads(done.stdout)["message"]


def test_each_line_of_its_log_is_json_and_names_the_trace(platform: Platform) -> None:
    trace = hashlib.md5(b"some").hexdigest()
    with platform.serve("catalogue") as served:
        httpx.get(served.url, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        httpx.get(f"{served.url}/x/y/z?token=secret")
        (found, lost) = served.lines()
    assert (found["message"], found["trace_id"], found["function"], found["status"]) == (
        "GET /",
        trace,
        "catalogue",
        200,
    )
    assert lost["status"] == 404
    assert "secret" not in json.dumps(lost)
