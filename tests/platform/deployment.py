"""A deployment of examples/kubernetes on the cluster that KUBECONFIG names, as docs/deploy.md goes through it."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.images import Registry
from tests.cluster.world import ROOT, get, kubectl, wait
from tests.platform import images

EXAMPLE = ROOT / "infra/terraform/examples/kubernetes"
NAMESPACE, JOBS = "polyshare", "polyshare-jobs"
STORE = "store.polyshare.svc.cluster.local"
_INGRESSES = {
    "kourier": "kourier-system",
    "istio": "istio-system",
    "contour": "contour-external",
}  # else as it is called


def domain() -> str:
    """The first domain that Knative Serving gives its services."""
    names = [name for name in get("-n", "knative-serving", "configmap", "config-domain")["data"] if name[0] != "_"]
    return str(names[0])


class Deployment:
    """`home` keeps the secrets, the variables and the state."""

    def __init__(self, home: Path, registry: Registry, base: str, environments: str) -> None:
        self.home, self.registry = home, registry
        self.secrets = home / "secrets"
        self._environ = {**os.environ, "TF_DATA_DIR": str(home / "terraform"), "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}
        self._secrets("make")
        self._secrets("apply")
        self._variables = home / "test.tfvars.json"
        self._variables.write_text(json.dumps(self._describe(images.make(registry, base), environments)))

    def _describe(self, made: dict[str, str], environments: str) -> dict[str, Any]:
        api = get("-n", "default", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes")["items"][0]
        network = get("-n", "knative-serving", "configmap", "config-network")["data"]
        ingress = network.get("ingress-class", network.get("ingress.class", "kourier")).partition(".")[0]
        host, port = urlsplit(f"//{self.registry.host}").hostname or "", urlsplit(f"//{self.registry.host}").port or 80
        at = ipaddress.ip_address(socket.gethostbyname(host))
        provisioners = {item["provisioner"] for item in get("storageclass")["items"]}
        return {
            "kubeconfig": os.environ["KUBECONFIG"],
            "images": made,
            "domain": domain(),
            "scheme": "http",
            "store_url": f"http://{STORE}:8333",
            "network": {
                "callers": ["knative-serving", _INGRESSES.get(ingress, ingress)],
                "api": {"cidr": f"{api['endpoints'][0]['addresses'][0]}/32", "port": api["ports"][0]["port"]},
                "registry": {"cidr": f"{at}/32", "port": port},
            },
            "chown_volumes": "kubernetes.io/host-path" in provisioners,
            "storage": {"database": "1Gi", "store": "4Gi", "ledger": "1Gi"},
            "jobs": {"parameters": {"images": f"{self.registry.host}/{environments}", "patience": "120"}},
            "settings": {"registries": f"http://{self.registry.host}"},
            "wait_seconds": 1500,
        }

    def apply(self) -> float:
        """Seconds until all was ready."""
        self._terraform("init", "-backend=false")
        started = time.monotonic()
        self._terraform("apply", "-auto-approve", *self._given())
        return time.monotonic() - started

    def is_as_planned(self) -> bool:
        return self._terraform("plan", "-detailed-exitcode", *self._given(), expect=(0, 2)) == 0

    def destroy(self) -> float:
        started = time.monotonic()
        self._terraform("destroy", "-auto-approve", *self._given())
        return time.monotonic() - started

    def token(self) -> str:
        return self._secrets("token", "tester", "acme=admin")

    def _given(self) -> list[str]:
        files = (self._variables, self.secrets / "public.auto.tfvars.json")
        return [f"-state={self.home / 'terraform.tfstate'}", *(f"-var-file={file}" for file in files)]

    def _terraform(self, *arguments: str, expect: tuple[int, ...] = (0,)) -> int:
        command = ["terraform", f"-chdir={EXAMPLE}", *arguments]
        done = subprocess.run(
            [*command, "-no-color"], env=self._environ, capture_output=True, text=True, timeout=2400, check=False
        )
        assert done.returncode in expect, f"terraform {arguments[0]}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.returncode

    def _secrets(self, command: str, *arguments: str) -> str:
        script = [sys.executable, str(ROOT / "infra/terraform/make_secrets.py"), command, str(self.secrets), *arguments]
        return subprocess.run(script, capture_output=True, text=True, timeout=120, check=True).stdout.strip()


def pods(selector: str, namespace: str = NAMESPACE) -> list[str]:
    return [item["metadata"]["name"] for item in get("-n", namespace, "pods", "-l", selector)["items"]]


def kill(pod: str, namespace: str = NAMESPACE) -> None:
    """At once, as when its node is lost."""
    kubectl("-n", namespace, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false", check=False)


@contextlib.contextmanager
def forwarded(target: str, port: int) -> Iterator[int]:
    """A port of this machine that leads to a pod's or service's in the namespace, begun anew whenever it ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local: int = probe.getsockname()[1]
    over = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not over.is_set():
            command = ["kubectl", "-n", NAMESPACE, "port-forward", "--address=127.0.0.1", target, f"{local}:{port}"]
            running[:] = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
            running[0].wait()
            over.wait(0.5)

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", local), 1):
            return True
        return False

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        wait(listens, 60)
        yield local
    finally:
        over.set()
        running[0].terminate()
        thread.join()
