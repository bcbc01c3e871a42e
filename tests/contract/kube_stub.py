"""An API server in little, over real HTTP: objects of any kind by namespace and name, as Kubernetes keeps them.

Names taken are refused, times have whole seconds, lists come in pages, selectors select, who has no token is refused,
and what an owner owned goes with it.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from polyshare.jobs.kubernetes import Access, Api

TOKEN = "service-account"
_PATH = re.compile(r"/(?:api/v1|apis/[^/]+/[^/]+)/namespaces/([^/]+)/([a-z]+)(?:/([^/]+))?(/log)?")
_PAGE = 3  # so that tests see more than one


@dataclass
class Kube:
    """What the server holds: (resource, name) → object, and pods' logs by (pod, container)."""

    url: str
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    logs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    namespace: str = "jobs"
    down: bool = False
    page: int = _PAGE
    lock: threading.Lock = field(default_factory=threading.Lock)

    def api(self, folder: Path, token: str = TOKEN) -> Api:
        (folder / "token").write_text(token)
        return Api(Access(self.url, folder / "token", folder / "none", self.namespace))

    def of(self, resource: str) -> list[dict[str, Any]]:
        return [item for (kind, _), item in self.objects.items() if kind == resource]

    def create(self, resource: str, body: dict[str, Any]) -> tuple[int, Any]:
        key = (resource, body["metadata"]["name"])
        if key in self.objects:
            return 409, {"message": f'{resource} "{key[1]}" already exists'}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now, "namespace": self.namespace}
        self.objects[key] = body
        return 201, body

    def delete(self, resource: str, name: str) -> None:
        gone = self.objects.pop((resource, name), None)
        for kind, other in list(self.objects):
            owners = self.objects[kind, other]["metadata"].get("ownerReferences", ())
            if gone is not None and any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                self.delete(kind, other)

    def list(self, resource: str, query: dict[str, str], *, metadata: bool) -> tuple[int, Any]:
        items = [item for item in self.of(resource) if selected(item, query)]
        start = int(query.get("continue") or 0)
        page = items[start : start + min(self.page, int(query.get("limit") or 500))]
        rest = {"continue": str(start + len(page))} if start + len(page) < len(items) else {}
        return 200, {"metadata": rest, "items": [{"metadata": i["metadata"]} for i in page] if metadata else page}


def selected(item: dict[str, Any], query: dict[str, str]) -> bool:
    """Whether label and field selectors of a request take an object."""
    labels = item["metadata"].get("labels", {})
    for term in re.split(r",(?![^(]*\))", query.get("labelSelector", "")):
        if found := re.fullmatch(r"(\S+) notin \((.*)\)", term):
            if labels.get(found[1]) in found[2].split(","):
                return False
        elif found := re.fullmatch(r"([^!=]+)(!?=)(.*)", term):
            if (labels.get(found[1]) == found[3]) != (found[2] == "="):
                return False
        elif term and term not in labels:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, wanted = term.partition("=")
        value: Any = item
        for step in path.split("."):
            value = value.get(step, {})
        if value != wanted:
            return False
    return True


def merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7396."""
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value


@contextmanager
def serving() -> Iterator[Kube]:
    """A server on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            found = _PATH.fullmatch(unquote(parts.path))
            with kube.lock:
                status, answer = self._answer(found, query, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _answer(self, found: re.Match[str] | None, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
            if kube.down:
                return 503, {"message": "the server is currently unable to handle the request"}
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                return 401, {"message": "Unauthorized"}
            if found is None or found[1] != kube.namespace:
                return 404, {"message": "not found"}
            resource, name = found[2], found[3]
            if self.command == "POST":
                return kube.create(resource, body)
            if self.command == "GET" and name is None:
                return kube.list(resource, query, metadata="PartialObjectMetadataList" in self.headers["Accept"])
            if self.command == "DELETE" and name is None:
                for item in [item for item in kube.of(resource) if selected(item, query)]:
                    kube.delete(resource, item["metadata"]["name"])
                return 200, {}
            item = kube.objects.get((resource, name))
            if item is None:
                return 404, {"message": f'{resource} "{name}" not found'}
            if found[4]:
                return 200, kube.logs.get((name, query.get("container", "")), b"")
            if self.command == "PATCH":
                merge(item, body)
            elif self.command == "DELETE":
                kube.delete(resource, name)
            return 200, item

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kube = Kube(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield kube
    finally:
        server.shutdown()
        server.server_close()
