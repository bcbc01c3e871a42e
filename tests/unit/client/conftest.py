"""A store and a registry that are small HTTP servers, so that what goes wrong on a line can be made to go wrong."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from polyshare.client import Client, Profile
from polyshare.hashing import Digest, digest_bytes, part_count, part_range


class Server:
    """Answers requests by `answer(handler, body)`; `mishaps` are taken one a request, before it."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.mishaps: list[Callable[[BaseHTTPRequestHandler, bytes], None]] = []
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                with owner.lock:
                    owner.requests.append((self.command, self.path))
                    mishap = owner.mishaps.pop(0) if owner.mishaps else None
                (mishap or owner.answer)(self, body)

            do_GET = do_PUT = do_POST = _take

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *arguments: None  # type: ignore[method-assign]  # clients hang up on purpose
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def reply(
    handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    return lambda handler, body: reply(handler, code, b"<Error><Code>Some</Code></Error>", headers)


def hang_up(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.close_connection = True
    handler.connection.close()


class Store(Server):
    """Keeps what is put, and checks the checksum header as S3 does."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if handler.command == "PUT":
            checksum = handler.headers.get("x-amz-checksum-sha256")
            if checksum != base64.b64encode(sha256(body).digest()).decode():
                reply(handler, 400, b"<Error><Code>BadDigest</Code></Error>")
                return
            self.objects[handler.path] = body
            reply(handler, 200)
            return
        data = self.objects.get(handler.path)
        if data is None:
            reply(handler, 404)
        elif handler.headers.get("range"):
            first, last = handler.headers["range"].removeprefix("bytes=").split("-")
            reply(handler, 206, data[int(first) : int(last) + 1])
        else:
            reply(handler, 200, data)


class Registry(Server):
    """Takes registrations as register_dataset does, hands out URLs of a store, and serves documents by hand."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.uploads: dict[str, dict[str, Any]] = {}  # by idempotency key
        self.documents: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, str] = {}  # path → key in the store
        self.parts: dict[str, list[str]] = {}
        self.traces: list[str | None] = []  # of each call

    @property
    def template(self) -> str:
        return self.url + "/{function}"

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.traces.append(handler.headers.get("traceparent"))
        code, document = self.act(
            handler.command, handler.path, json.loads(body or b"{}"), handler.headers.get("idempotency-key")
        )
        kind = "application/json" if code < 400 else "application/problem+json"
        reply(handler, code, json.dumps(document).encode(), {"content-type": kind})

    def act(self, method: str, path: str, body: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
        function, _, rest = path.lstrip("/").partition("/")
        if function == "register_dataset" and not rest:
            assert key is not None
            upload = self.uploads.setdefault(key, {"id": str(uuid.uuid4()), "files": body["files"]})
            for file in upload["files"]:
                if "data" in file:
                    self.store.objects[self.key_of(upload, file["path"], 1)] = base64.b64decode(file["data"])
            return self.progress(upload)
        if function == "register_dataset":
            found = next((u for u in self.uploads.values() if rest.startswith(u["id"])), None)
            if found is None:
                return problem(404, "not-found", "there is no such upload")
            if rest.endswith("/confirm"):
                return self.progress(found) if not self.missing(found) else problem(409, "conflict", "incomplete")
            return 200, {"urls": [self.put_url(found, part) for part in body["parts"]]}
        if function == "fetch_asset" and method == "GET":
            return 200, self.documents[rest]
        if function == "fetch_asset":
            paths = body["paths"]
            return 200, {
                "urls": [{"url": self.store.url + self.objects[p], "parts": self.parts.get(p, [])} for p in paths]
            }
        return problem(404, "not-found", f"there is no {path}")

    def key_of(self, upload: dict[str, Any], path: str, part: int) -> str:
        return f"/{upload['id']}/{path}.{part}"

    def put_url(self, upload: dict[str, Any], part: dict[str, Any]) -> dict[str, Any] | None:
        key = self.key_of(upload, part["path"], part.get("part", 1))
        if key in self.store.objects:
            return None
        checksum = base64.b64encode(bytes.fromhex(part["sha256"])).decode()
        return {"url": self.store.url + key, "headers": {"x-amz-checksum-sha256": checksum}}

    def missing(self, upload: dict[str, Any]) -> list[str]:
        return [
            file["path"]
            for file in upload["files"]
            if any(
                self.key_of(upload, file["path"], part) not in self.store.objects
                for part in range(1, part_count(file["size"]) + 1)
            )
        ]

    def progress(self, upload: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        missing = self.missing(upload)
        if missing:
            return 202, {"id": upload["id"], "missing": missing, "expires": 2e9}
        return 201, {
            "id": upload["id"],
            "kind": "dataset",
            "address": "0x" + "11" * 20,
            "anchored": False,
            "organisation": "local",
            "name": None,
            "version": None,
        }

    def serve(self, path: str, data: bytes) -> dict[str, Any]:
        """Have a file to be fetched; its entry in a document."""
        digest: Digest = digest_bytes(data)
        self.objects[path] = "/blobs/" + str(len(self.objects))
        self.store.objects[self.objects[path]] = data
        if digest.parts > 1:
            ranges = [part_range(len(data), n + 1) for n in range(digest.parts)]
            self.parts[path] = [sha256(data[s : s + n]).hexdigest() for s, n in ranges]
        return {"path": path, "size": digest.size, "digest": str(digest)}


def problem(code: int, slug: str, detail: str) -> tuple[int, dict[str, Any]]:
    return code, {"type": f"urn:polyshare:problem:{slug}", "title": slug, "status": code, "detail": detail}


@pytest.fixture
def store() -> Iterator[Store]:
    server = Store()
    yield server
    server.close()


@pytest.fixture
def registry(store: Store) -> Iterator[Registry]:
    server = Registry(store)
    yield server
    server.close()


@pytest.fixture
def client(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Client(Profile(registry.template, "token")) as made:
        yield made


@pytest.fixture
def mishap() -> dict[str, Any]:
    return {"status": status, "hang_up": hang_up, "reply": reply, "problem": problem}
