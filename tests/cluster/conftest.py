"""Tests that need a cluster with Argo Workflows: KUBECONFIG names it, POLYSHARE_TEST_REGISTRY a plain-HTTP registry
that its nodes pull from, with a Python image in it (POLYSHARE_TEST_BASE, default python3:base).

POLYSHARE_TEST_ADDRESS is where pods reach this machine; by default the first node's address, as the node may be it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.images import Registry
from tests.cluster.world import Cluster, Platform, get, kubectl


def _missing() -> str | None:
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG is not set: it names the cluster to test on"
    if shutil.which("kubectl") is None:
        return "there is no kubectl on PATH"
    if "workflows.argoproj.io" not in kubectl("get", "crd", "-o", "name", check=False):
        return "the cluster of KUBECONFIG does not answer, or has no Argo Workflows"
    registry = os.environ.get("POLYSHARE_TEST_REGISTRY")
    if not registry:
        return "POLYSHARE_TEST_REGISTRY is not set: host:port of a plain-HTTP registry that the cluster pulls from"
    base = os.environ.get("POLYSHARE_TEST_BASE", "python3:base")
    if not Registry(registry).has(base):
        return f"registry {registry} has no image {base}: push a Python 3.11 image and set POLYSHARE_TEST_BASE"
    return None


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    missing = _missing()
    if missing is not None:
        pytest.skip(missing)
    namespace = f"polyshare-test-{secrets.token_hex(3)}"
    kubectl("create", "namespace", namespace)
    try:
        registry = Registry(os.environ["POLYSHARE_TEST_REGISTRY"])
        made = Cluster(namespace, registry, os.environ.get("POLYSHARE_TEST_BASE", "python3:base"))
        made.apply()
        yield made
    finally:
        if not os.environ.get("KEEP"):
            kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="session")
def platform(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    addresses = get("nodes")["items"][0]["status"]["addresses"]
    node = next(item["address"] for item in addresses if item["type"] == "InternalIP")
    running = Platform(tmp_path_factory.mktemp("platform"), cluster, os.environ.get("POLYSHARE_TEST_ADDRESS", node))
    try:
        running.start()
        yield running
    finally:
        running.clean()
