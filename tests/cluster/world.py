"""An embedded registry of assets on this machine whose jobs run on a cluster: its stack, with the runner `argo`."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from polyshare.stack.layout import write_json
from tests.cluster.images import Content, Registry
from tests.e2e.machine import Machine

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "workflows"
_PACKAGES = (
    "httpx",
    "httpcore",
    "h11",
    "anyio",
    "certifi",
    "idna",
    "msgspec",
    "rfc8785",
    "Crypto",
    "typing_extensions",
)
SITE = "/usr/local/lib/python3.11/dist-packages"  # of Debian's Python


def kubectl(*arguments: str, given: str | None = None, check: bool = True) -> str:
    done = subprocess.run(
        ["kubectl", *arguments], input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 or not check, f"kubectl {arguments}: {done.stderr}"
    return done.stdout


def get(*arguments: str) -> Any:
    return json.loads(kubectl("get", "-o", "json", *arguments))


def documents(**parameters: str) -> Iterator[dict[str, Any]]:
    """The manifests of infra/workflows with other defaults of their parameters.

    Where volumes are folders of the node they belong to root and know no fsGroup: a first container hands them over.
    """
    provisioners = {item["provisioner"] for item in get("storageclass")["items"]}
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "WorkflowTemplate":
                for item in document["spec"]["arguments"]["parameters"]:
                    item["value"] = parameters.get(item["name"].replace("-", "_"), item["value"])
                for claim in document["spec"].get("volumeClaimTemplates", ()):
                    claim["spec"]["resources"]["requests"]["storage"] = "1Gi"
                if "kubernetes.io/host-path" in provisioners:
                    _own(document["spec"])
            yield document


def _own(spec: dict[str, Any]) -> None:
    for template in spec["templates"]:
        if template["name"] in ("fetch", "main") and "container" in template:
            template["initContainers"] = [
                {
                    "name": "own",
                    "image": "{{workflow.parameters.image}}",
                    "command": ["python", "-c", "import os; os.chown('/job', 65532, 65532)"],
                    "mirrorVolumeMounts": True,
                    "securityContext": {"runAsUser": 0, "runAsNonRoot": False},
                }
            ]


class Cluster:
    """A namespace with the workflows, and the images that its jobs need."""

    def __init__(self, namespace: str, registry: Registry, base: str) -> None:
        self.namespace, self.registry, self.base = namespace, registry, base
        self.image = registry.push("polyshare-test/functions:1", base, _functions())

    def apply(self, **parameters: str) -> None:
        """Put the workflows in place, with these values of their parameters."""
        images = f"{self.registry.host}/polyshare-test/"
        parameters = {"image": self.image, "images": images, "patience": "60", **parameters}
        kubectl("-n", self.namespace, "apply", "-f", "-", given=yaml.safe_dump_all(documents(**parameters)))

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        return list(get("-n", self.namespace, *arguments)["items"])

    def run_of(self, job: str) -> str | None:
        """The pod of a job's run, once its container runs."""
        for pod in self.get("pods", "-l", f"polyshare.network=none,polyshare.job={job}"):
            if any("running" in status["state"] for status in pod["status"].get("containerStatuses", ())):
                return str(pod["metadata"]["name"])
        return None

    def settings(self, folder: Path) -> dict[str, str]:
        """How a function reaches the cluster from outside, as the runner's service account."""
        cluster = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))["clusters"][0]["cluster"]
        ca, token = folder / "cluster-ca.crt", folder / "cluster-token"
        given = cluster.get("certificate-authority-data")
        ca.write_bytes(base64.b64decode(given) if given else Path(cluster["certificate-authority"]).read_bytes())
        token.write_text(kubectl("-n", self.namespace, "create", "token", "polyshare-runner", "--duration", "8h"))
        token.chmod(0o600)
        return {
            "runner": "argo",
            "runner_namespace": self.namespace,
            "runner_api": cluster["server"],
            "runner_token_file": str(token),
            "runner_ca_file": str(ca),
            "registries": f"http://{self.registry.host}",
        }


class Platform(Machine):
    """A stack whose functions and store the cluster's pods reach at this machine's address there."""

    def __init__(self, home: Path, cluster: Cluster, address: str) -> None:
        super().__init__(home)
        self.cluster, self.address = cluster, address
        self._closing = contextlib.ExitStack()

    def start(self) -> None:
        self.up()
        ports = self.state["ports"]
        for port in (ports["functions"], ports["s3"]):
            self._closing.enter_context(forwarding(self.address, port))
        settings = json.loads(self.layout.settings.read_text())
        settings |= self.cluster.settings(self.home)
        settings["s3_public_endpoint"] = f"http://{self.address}:{ports['s3']}"
        settings["functions_url"] = f"http://{self.address}:{ports['functions']}/{{function}}"
        write_json(self.layout.settings, settings)
        before = self.state["pids"]["functions"]
        os.kill(before, signal.SIGKILL)  # started again, it reads them
        wait(lambda: self.state["pids"].get("functions", before) != before and self._serves())

    def _serves(self) -> bool:
        done = subprocess.run(
            [str(shutil.which("polyshare")), "list"], env=self.environ, capture_output=True, timeout=60, check=False
        )
        return done.returncode == 0

    def ask(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        done = self.polyshare(*arguments, "--json", expect=expect)
        return dict(json.loads(done))

    def status(self, asset: str) -> dict[str, Any]:
        done = subprocess.run(
            [str(shutil.which("polyshare")), "status", asset, "--json"],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return dict(json.loads(done.stdout or "{}"))

    def job_of(self, asset: str) -> str:
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.layout.database)) as database:
            return str(database.execute("SELECT id FROM jobs WHERE asset = ?", (asset,)).fetchone()[0])

    def until(self, asset: str, *states: str, seconds: float = 240) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def over() -> bool:
            nonlocal found
            found = self.status(asset)
            return found.get("state") in states

        wait(over, seconds, lambda: f"{asset} is not {states}: {json.dumps(found)[:3000]}")
        return found

    def clean(self) -> None:
        super().clean()
        self._closing.close()


def wait(condition: Callable[[], Any], seconds: float = 90, what: Callable[[], str] = lambda: "it did not come") -> Any:
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, what()
        time.sleep(0.5)
    return value


@contextlib.contextmanager
def forwarding(address: str, port: int) -> Iterator[None]:
    """TCP to `port` at an address of this machine goes to the same port of 127.0.0.1."""
    server = socket.create_server((address, port), backlog=64)

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            try:
                inner = socket.create_connection(("127.0.0.1", port), 10)
            except OSError:
                client.close()
                continue
            inner.settimeout(None)
            for one, other in ((client, inner), (inner, client)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        server.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _functions() -> dict[str, Content]:
    """Our own code and what it imports, as the image `functions` has it."""
    files: dict[str, Content] = {
        f"{SITE}/polyshare": ROOT / "shared" / "polyshare",
        "/usr/local/bin/python": "/usr/bin/python3",
    }
    for name in _PACKAGES:
        found = importlib.metadata.packages_distributions()[name][0]
        site = Path(str(importlib.metadata.distribution(found).locate_file(name)))
        site = site if site.exists() else site.with_suffix(".py")
        files[f"{SITE}/{site.name}"] = site
    return files
