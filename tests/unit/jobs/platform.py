"""complete_job and a store with presigned URLs, over real HTTP: what a job's steps talk to, in one small server."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from polyshare.hashing import part_count
from polyshare.jobs.fake import entry_of
from polyshare.jobs.job import Action, Job


@dataclass
class Platform:
    """Jobs by id, objects by key, and what was told of each job."""

    url: str
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    completions: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    down: int = 0  # how many requests are still answered 503

    def add(
        self,
        action: Action,
        channels: Mapping[str, Mapping[str, bytes]],
        *,
        wall: float = 60,
        attempt: int = 1,
        **document: Any,
    ) -> Job:
        """A job with these inputs."""
        name = str(uuid.uuid4())
        listed: dict[str, list[dict[str, Any]]] = {}
        for channel, files in channels.items():
            for path, data in files.items():
                self.objects[f"in/{name}/{channel}/{path}"] = data
                item: dict[str, Any] = {"path": path, "size": len(data)}
                listed.setdefault(channel, []).append(item if action == "ingest" else entry_of(path, data).to_json())
        limits = {"wall_seconds": wall, **document.pop("limits", {})}
        self.jobs[name] = {"job": name, "attempt": attempt, "action": action, "asset": name, "organisation": "org"}
        self.jobs[name] |= {"channels": listed, "limits": limits, "deadline": time.time() + 600, **document}
        return Job(name, attempt, action, self.url + "/complete_job", "secret-" + name, time.time() + 600)

    def result(self, job: Job) -> dict[str, bytes]:
        """The published files of a completed job, each found by its digest."""
        files = {}
        for item in self.completions[job.id]["files"]:
            pieces = [
                self.objects[f"out/{job.id}/{item['path']}/{part}"] for part in range(1, part_count(item["size"]) + 1)
            ]
            files[item["path"]] = b"".join(pieces)
            assert entry_of(item["path"], files[item["path"]]).to_json() == item
        return files

    def wait(self, job: Job, seconds: float = 60) -> dict[str, Any]:
        """The completion, once it is there."""
        until = time.monotonic() + seconds
        while job.id not in self.completions:
            assert time.monotonic() < until, f"job {job.id} was not completed: {self.told.get(job.id)}"
            time.sleep(0.02)
        return self.completions[job.id]

    def post(self, job: str, what: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        """One call of complete_job's API."""
        document = self.jobs.get(job)
        if document is None or token != "secret-" + job:
            return 401, {"detail": "unknown job"}
        if what == "complete":
            before = self.completions.get(job)
            if before is not None:
                return (204, None) if before == body else (403, {"detail": "completed otherwise"})
            for item in body["files"]:
                for part in range(1, part_count(item["size"]) + 1):
                    if f"out/{job}/{item['path']}/{part}" not in self.objects:
                        return 400, {"detail": f"{item['path']} is not there"}
            self.completions[job] = body
            return 204, None
        if (
            job in self.cancelled
            or job in self.completions
            or body.get("attempt", document["attempt"]) != document["attempt"]
        ):
            return 409, {"detail": "fenced"}
        if what == "start":
            return 200, document
        if what == "progress":
            self.told.setdefault(job, []).append((body["stage"], body["log_tail"]))
            return 204, None
        if what == "inputs":
            keys = [f"in/{job}/{item['channel']}/{item['path']}" for item in body["files"]]
            return 200, {"urls": [{"url": f"{self.url}/{key}", "headers": self._match(key)} for key in keys]}
        urls = []
        for part in body["parts"]:
            url = f"{self.url}/out/{job}/{part['path']}/{part['part']}"
            urls.append({"url": url, "headers": {"x-amz-checksum-sha256": part["sha256"]}})
        return 200, {"urls": urls}

    def _match(self, key: str) -> dict[str, str]:
        return {"If-Match": self.etags[key]} if key in self.etags else {}


@contextmanager
def serving() -> Iterator[Platform]:
    """A platform on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            _, _, job, what = self.path.split("/")
            body = json.loads(self._body())
            if platform.down > 0:
                platform.down -= 1
                return self._answer(503, b'{"detail": "down"}')
            status, answer = platform.post(job, what, self.headers["Authorization"].removeprefix("Bearer "), body)
            return self._answer(status, b"" if answer is None else json.dumps(answer).encode())

        def do_GET(self) -> None:
            key = self.path[1:]
            data = platform.objects.get(key)
            if data is None:
                return self._answer(404, b"")
            if self.headers.get("If-Match", "same") not in ("same", hashlib.md5(data).hexdigest()):
                return self._answer(412, b"")
            if "Range" in self.headers:
                first, last = self.headers["Range"].removeprefix("bytes=").split("-")
                return self._answer(206, data[int(first) : int(last) + 1])
            return self._answer(200, data)

        def do_PUT(self) -> None:
            data = self._body()
            if hashlib.sha256(data).hexdigest() != self.headers["x-amz-checksum-sha256"]:
                return self._answer(400, b"")
            platform.objects[self.path[1:]] = data
            return self._answer(200, b"")

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    platform = Platform(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield platform
    finally:
        server.shutdown()
        server.server_close()
