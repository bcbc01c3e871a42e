"""An API server that answers what a real one answered (tests/vectors/cluster), as a test has changed it.

`KUBECONFIG=… python -m tests.contract.cluster_api NAMESPACE > tests/vectors/cluster/whole.json` records a cluster.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors" / "cluster"
_NOISE = ("managedFields", "uid", "resourceVersion", "creationTimestamp", "generation", "selfLink", "ownerReferences")


def paths(namespace: str) -> list[str]:
    """What `doctor --cluster` lists."""
    groups = ("serving.knative.dev/v1", "eventing.knative.dev/v1", "sources.knative.dev/v1", "argoproj.io/v1alpha1")
    listed = ("services", "revisions"), ("brokers", "triggers"), ("pingsources",), ("workflowtemplates",)
    return [
        "/version/",
        *(f"/apis/{group}" for group in groups),
        *(f"/apis/apps/v1/namespaces/{of}/deployments" for of in ("knative-serving", "knative-eventing")),
        "/apis/apps/v1/deployments",
        f"/api/v1/namespaces/{namespace}/pods",
        *(
            f"/apis/{group}/namespaces/{namespace}/{k}"
            for group, kinds in zip(groups, listed, strict=True)
            for k in kinds
        ),
    ]


def read(name: str) -> dict[str, Any]:
    """Path → answer, of a recorded cluster; the test's own to change."""
    return copy.deepcopy(json.loads((VECTORS / f"{name}.json").read_text()))


@contextmanager
def api_server(answers: dict[str, Any], folder: Path, *, refuse: int = 0) -> Iterator[Path]:
    """Serve the answers; the path of a kubeconfig for it. What is not among them is not found."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if refuse or self.headers.get("authorization") != "Bearer mine":
                return self._answer(refuse or 401, {"message": f"{path} is forbidden", "kind": "Status"})
            found = answers.get(path, answers.get(path.rstrip("/")))
            if found is None:
                return self._answer(404, {"message": f"{path} not found", "kind": "Status"})
            return self._answer(200, found)

        def _answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = folder / "kubeconfig"
    named = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "mine"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    config.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **named}))
    try:
        yield config
    finally:
        server.shutdown()


def _recorded(namespace: str) -> dict[str, Any]:
    found = {}
    for path in paths(namespace):
        done = subprocess.run(["kubectl", "get", "--raw", path], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found[path] = _short(json.loads(done.stdout))
    return found


def _short(value: Any) -> Any:
    """Without what differs each time and nobody reads."""
    if isinstance(value, dict):
        return {k: _short(v) for k, v in value.items() if k not in _NOISE and "last-applied" not in k}
    return [_short(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    json.dump(_recorded(sys.argv[1]), sys.stdout, indent=1, sort_keys=True)
