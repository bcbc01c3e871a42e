"""The embedded SeaweedFS: only S3 with a key reaches it, and an inbox key reaches its own prefix only."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import httpx
import psutil
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from polyshare.errors import Invalid
from polyshare.stack import weed
from polyshare.stack.inbox_keys import InboxKeys
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout, read_json
from polyshare.stack.listening import inner_ports
from polyshare.stack.processes import Supervisor

INBOX, BLOBS = weed.BUCKETS["inbox"], weed.BUCKETS["blobs"]


@dataclass
class Seaweed:
    layout: Layout
    ports: dict[str, int]
    supervisor: Supervisor
    told: list[tuple[str | None, dict[str, Any]]] = field(default_factory=list)  # Authorization and body of webhooks

    @property
    def keyring(self) -> Keyring:
        return Keyring(self.layout)

    @property
    def root(self) -> Any:
        return client(self, self.keyring.read("s3_access_key"), self.keyring.read("s3_secret_key"))


def client(server: Seaweed, access_key: str, secret_key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=weed.endpoint(server.ports),
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=20, s3={"addressing_style": "path"}),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    layout = Layout(tmp_path_factory.mktemp("seaweedfs"))
    layout.make()
    started = Seaweed(layout, inner_ports(layout, weed.PORTS), Supervisor(layout.log))
    started.keyring.make()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            started.told.append((self.headers.get("authorization"), json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{listener.server_port}/{{function}}"
    try:
        started.supervisor.start(weed.service(layout, started.keyring, started.ports, url))
        for bucket in weed.BUCKETS.values():
            started.root.create_bucket(Bucket=bucket)
        yield started
    finally:
        started.supervisor.stop_all()
        weed.remove_sockets(started.ports)
        listener.shutdown()


@pytest.fixture(scope="module")
def mine(server: Seaweed) -> Any:
    """An S3 client with the inbox key of the organisation `mine`; `yours` and `mine2` have objects too."""
    for bucket in (INBOX, BLOBS):
        for organisation in ("mine", "yours", "mine2"):
            server.root.put_object(Bucket=bucket, Key=f"{organisation}/set/file", Body=b"first")
    keys = InboxKeys(server.layout, INBOX).issue("mine")
    found = client(server, *keys)
    wait_until(lambda: known(server, found))
    return found


def known(server: Seaweed, inbox: Any) -> bool:
    server.supervisor.tick()  # has the store read its keys again
    try:
        inbox.list_objects_v2(Bucket=INBOX, Prefix="mine/")
    except ClientError:
        return False
    return True


def wait_until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def test_a_key_makes_no_more_keys(server: Seaweed, mine: Any) -> None:
    access_key, secret_key = InboxKeys(server.layout, INBOX).issue("mine")
    iam = boto3.client(
        "iam",
        endpoint_url=weed.endpoint(server.ports),
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"max_attempts": 0}),
    )
    with pytest.raises((ClientError, ResponseParserError)):
        iam.create_access_key()


def test_issuing_again_gives_the_same_key_and_keeps_the_others(server: Seaweed) -> None:
    keys = InboxKeys(server.layout, INBOX)
    first, other = keys.issue("one"), keys.issue("two")
    assert keys.issue("one") == first
    assert other != first
    names = [found["name"] for found in read_json(weed.identities_path(server.layout))["identities"]]
    assert sorted(names) == sorted(set(names))
    assert {"polyshare", "inbox-one", "inbox-two"} <= set(names)


@pytest.mark.parametrize("organisation", ["", "*", "a/b", "a*", "../x", "A", "a" * 65])
def test_an_organisation_that_is_a_pattern_gets_no_key(server: Seaweed, organisation: str) -> None:
    with pytest.raises(Invalid):
        InboxKeys(server.layout, INBOX).issue(organisation)


def test_a_new_object_in_the_inbox_is_told_with_the_event_token(server: Seaweed) -> None:
    server.root.put_object(Bucket=BLOBS, Key="org/quiet", Body=b"x")
    server.root.put_object(Bucket=INBOX, Key="org/told/dataset.json", Body=b"{}")
    wait_until(lambda: any(body["key"].endswith("told/dataset.json") for _, body in server.told))
    assert {given for given, _ in server.told} == {f"Bearer {server.keyring.read('event_token')}"}
    assert all(body["key"].startswith(f"/buckets/{INBOX}/") for _, body in server.told)


def test_nothing_is_to_be_had_without_a_key(server: Seaweed) -> None:
    server.root.put_object(Bucket=BLOBS, Key="org/secret", Body=b"secret bytes")
    paths = ("/", f"/{BLOBS}", f"/{BLOBS}/org/secret", f"/buckets/{BLOBS}/org/secret", f"/buckets/{BLOBS}/", "/etc/")
    paths += ("/dir/assign", "/vol/status", "/submit", "/ui/index.html", "/1,01", "/.tus/", "/stats/disk", "/metrics")
    # How full the disk is, and counters.
    pages = {("weed_master", "/"), ("weed_master", "/ui/index.html"), ("weed_admin", "/metrics")}
    for name in ("weed_master", "weed_volume", "weed_filer", "weed_s3", "weed_admin"):
        for path in paths:
            answer = httpx.get(f"http://127.0.0.1:{server.ports[name]}{path}", timeout=10)
            assert b"secret bytes" not in answer.content, (name, path)
            if answer.status_code == 200:
                assert (name, path) in pages, (name, path)
    for method, name, path in (
        ("PUT", "weed_filer", f"/buckets/{BLOBS}/org/evil"),
        ("DELETE", "weed_filer", f"/buckets/{BLOBS}/org/secret"),
        ("POST", "weed_master", f"/col/delete?collection={BLOBS}"),
        ("POST", "weed_volume", "/1,0000000001"),
    ):
        answer = httpx.request(method, f"http://127.0.0.1:{server.ports[name]}{path}", content=b"x", timeout=10)
        assert answer.status_code >= 400, (name, path)
    assert server.root.get_object(Bucket=BLOBS, Key="org/secret")["Body"].read() == b"secret bytes"


@pytest.mark.parametrize("part", ["master", "volume", "filer", "s3", "admin"])
def test_grpc_wants_a_certificate(server: Seaweed, part: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", server.ports[f"weed_{part}_grpc"]), timeout=5) as raw:

        def speak() -> bytes:
            with context.wrap_socket(raw) as secure:
                secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                return secure.recv(100)

        with pytest.raises((ssl.SSLError, ConnectionError)):
            assert speak(), "closed without an answer"


def test_sockets_and_secrets_are_its_owners_only(server: Seaweed) -> None:
    for path in server.layout.data.rglob("*"):
        if path.is_dir() or "volumes" in path.parts or path.suffix == ".log":
            continue  # behind a folder that is its owner's only
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE(server.layout.data.stat().st_mode) == 0o700
    for part in ("master", "volume", "filer", "s3", "admin"):
        inner = f"/tmp/seaweedfs-{part}-grpc-{server.ports[f'weed_{part}_grpc']}.sock"
        assert stat.S_IMODE(os.stat(inner).st_mode) & 0o077 == 0


def test_it_listens_on_this_machine_only(server: Seaweed) -> None:
    process = psutil.Process(server.supervisor.pids()["store"])
    listening = {c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == set(server.ports.values())


def test_no_secret_is_in_its_arguments_environment_or_log(server: Seaweed, mine: Any) -> None:
    process = psutil.Process(server.supervisor.pids()["store"])
    names = (
        "s3_access_key",
        "s3_secret_key",
        "event_token",
        "weed_write",
        "weed_read",
        "weed_filer_write",
        "inbox_seed",
    )
    secrets = [server.keyring.read(name) for name in names] + [InboxKeys(server.layout, INBOX).issue("mine")[1]]
    seen = " ".join(process.cmdline()) + " ".join(process.environ().values())
    seen += (server.layout.log / "store.log").read_text(errors="replace")
    assert not [secret for secret in secrets if secret in seen]


def test_it_is_started_again_after_kill_9_with_what_it_had(server: Seaweed, mine: Any) -> None:
    server.root.put_object(Bucket=BLOBS, Key="org/kept", Body=b"kept")
    os.kill(server.supervisor.pids()["store"], signal.SIGKILL)

    def back() -> bool:
        server.supervisor.tick()
        try:
            return bool(server.root.get_object(Bucket=BLOBS, Key="org/kept")["Body"].read() == b"kept")
        except Exception:  # whatever a client sees meanwhile
            return False

    wait_until(back, 30)
    mine.put_object(Bucket=INBOX, Key="mine/after", Body=b"x")
