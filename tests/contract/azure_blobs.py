"""Azurite, Azure's own stand-in for its Blob service, as `make test-inboxes` brings it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote, urlsplit

from polyshare.store.inbox import CloudInbox

BIN = Path(sys.executable).parent  # where node is
TOOLS = Path(__file__).parents[2] / ".make"
ACCOUNT, KEY = "devstoreaccount1", base64.b64encode(os.urandom(64)).decode()


def listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def running(command: list[str], port: int, **environ: str) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environ},
        start_new_session=True,  # node of the wheel is a program that runs another
    )
    try:
        for _ in range(300):
            if listening(port) or process.poll() is not None:
                break
            time.sleep(0.1)
        assert process.poll() is None, f"{command[0]} did not start"
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Azure:
    """Azurite, by the requests of Azure's Blob service that obstore does not make."""

    endpoint: str

    def container(self, name: str) -> None:
        assert self._put(f"/{ACCOUNT}/{name}", "restype=container", {}, b"") == 201

    def put(self, container: str, key: str, data: bytes) -> None:
        assert self._put(f"/{ACCOUNT}/{container}/{quote(key)}", "", {"x-ms-blob-type": "BlockBlob"}, data) == 201

    def _put(self, path: str, query: str, headers: dict[str, str], data: bytes) -> int:
        headers = headers | {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        named = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        resource = f"/{ACCOUNT}{path}" + "".join(f"\n{pair.replace('=', ':')}" for pair in query.split("&") if pair)
        unused = "\n" * 9
        text = f"PUT\n\n\n{len(data) or ''}{unused}{named}{resource}"
        signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
        headers["authorization"] = f"SharedKey {ACCOUNT}:{signature}"
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=20)
        connection.request("PUT", f"{path}?{query}".rstrip("?"), data, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def inbox(self, container: str, **changes: str) -> CloudInbox:
        config = {"account_name": ACCOUNT, "account_key": KEY, "endpoint": self.endpoint} | changes
        return CloudInbox(f"az://{container}", config=config, client_options={"allow_http": True})


@contextlib.contextmanager
def azure() -> Iterator[Azure | None]:
    """Azurite; None where it is not."""
    azurite = TOOLS / "azurite/node_modules/.bin/azurite-blob"
    if not azurite.exists():
        yield None
        return
    port = free_port()
    options = ["--silent", "--inMemoryPersistence", "--disableTelemetry"]
    command = [str(azurite), *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with running(command, port, AZURITE_ACCOUNTS=f"{ACCOUNT}:{KEY}"):
        yield Azure(f"http://127.0.0.1:{port}/{ACCOUNT}")
