"""Pinning tags by their registry, before a small one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from polyshare.errors import Invalid, NotFound, Unavailable
from polyshare.jobs import environment, registry

DIGEST = "sha256:" + "ab" * 32


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        host = f"http://127.0.0.1:{self.server.server_address[1]}"  # type: ignore[misc]
        open_to_all = self.path.startswith("/v2/open/")
        if not open_to_all and self.headers.get("Authorization") != "Bearer anonymous":
            self.send_response(401)
            scope = f'service="s",scope="repository:{self.path.split("/")[2]}:pull"'
            self.send_header("WWW-Authenticate", f'Bearer realm="{host}/token",{scope}')
        elif self.path.endswith("/broken"):
            self.send_response(500)
        elif self.path.endswith("/1.0") and "oci.image.index" in self.headers["Accept"]:
            self.send_response(200)
            self.send_header("Docker-Content-Digest", DIGEST)
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        assert self.path == "/token?service=s&scope=repository%3Aguarded%3Apull"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"token": "anonymous"}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_tag_is_pinned_by_its_manifests_digest(host: str) -> None:
    pinned = environment.resolve(f"oci:{host}/open/trainer:1.0", f"http://{host}, other.example.org")
    assert pinned == f"oci:{host}/open/trainer@{DIGEST}"
    assert environment.resolve(pinned, "") == pinned, "nobody is asked for what is pinned"


def test_a_registry_that_wants_a_token_of_anonymous_users_gets_one(host: str) -> None:
    assert registry.resolve(f"{host}/guarded/trainer:1.0", [f"http://{host}"]) == DIGEST


def test_what_is_not_there_and_what_is_broken_are_told_apart(host: str) -> None:
    with pytest.raises(NotFound, match="push it, or name it by digest"):
        registry.resolve(f"{host}/open/trainer:2.0", [f"http://{host}"])
    with pytest.raises(Unavailable, match="answered 500"):
        registry.resolve(f"{host}/open/trainer:broken", [f"http://{host}"])


@pytest.mark.parametrize("image", ["127.0.0.1:1/x:1", "localhost/x:1", "10.0.0.1/x", "169.254.169.254/x:1"])
def test_nothing_within_our_network_is_asked_that_no_operator_named(image: str) -> None:
    with pytest.raises(Invalid, match="POLYSHARE_REGISTRIES"):
        registry.resolve(image, ["http://127.0.0.1:2"])


def test_names_have_the_defaults_that_engines_have() -> None:
    assert registry._split("python") == ("registry-1.docker.io", "library/python", "latest")
    assert registry._split("org/x:2") == ("registry-1.docker.io", "org/x", "2")
    assert registry._split("quay.io/org/x") == ("quay.io", "org/x", "latest")
    assert registry._split("localhost:5000/x:2") == ("localhost:5000", "x", "2")
