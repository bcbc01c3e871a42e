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
from urllib.parse import unquote

VECTORS = Path(__file__).parents[1] / "vectors" / "cluster"
_NOISE = {  # what differs each time, or what nobody here reads
    *("managedFields", "uid", "resourceVersion", "creationTimestamp", "generation", "selfLink", "ownerReferences"),
    *("annotations", "securityContext", "tolerations", "resources", "livenessProbe", "readinessProbe", "matchLabels"),
    *("observedGeneration", "lastTransitionTime", "lastUpdateTime", "lastProbeTime", "podIP", "podIPs", "hostIPs"),
    *("affinity", "args", "verbs", "shortNames", "categories", "storageVersionHash", "templates", "traffic", "url"),
}
_UNREAD = ("volumes", "env", "volumeMounts", "ports", "containers", "initContainers")  # of what is no function


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
    """Serve the answers; the path of a kubeconfig for it. What is not among them is not found; text is a pod's 503."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            if refuse or self.headers.get("authorization") != "Bearer mine":
                return self._answer(refuse or 401, {"message": f"{path} is forbidden", "kind": "Status"})
            found = answers.get(path, answers.get(path.rstrip("/")))
            if found is None:
                return self._answer(404, {"message": f"{path} not found", "kind": "Status"})
            return self._answer(503 if isinstance(found, str) else 200, found)

        def _answer(self, status: int, body: Any) -> None:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
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
            function = path.endswith("/serving.knative.dev/v1/namespaces/" + namespace + "/services")
            answer = json.loads(done.stdout)
            found[path] = _short(answer, () if function else _UNREAD) if "items" in answer else answer
    argo = found["/apis/apps/v1/deployments"]
    argo["items"] = [item for item in argo["items"] if item["metadata"]["namespace"] == "argo"]
    return found


def _short(value: Any, unread: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        kept = {k: _short(v, unread) for k, v in value.items() if k not in _NOISE}
        return {
            k: [_named(c) for c in v] if k == "containers" and unread else v
            for k, v in kept.items()
            if k not in unread or k == "containers"
        }
    return [_short(item, unread) for item in value] if isinstance(value, list) else value


def _named(container: Any) -> Any:
    return {k: v for k, v in container.items() if k in ("name", "image")}


if __name__ == "__main__":
    lines = [f"{json.dumps(path)}: {json.dumps(body, sort_keys=True)}" for path, body in _recorded(sys.argv[1]).items()]
    print("{\n" + ",\n".join(lines) + "\n}")
