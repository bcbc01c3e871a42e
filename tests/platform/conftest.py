"""The platform whole, on a cluster with Knative and Argo Workflows (`make test-e2e`).

| variable | |
| --- | --- |
| KUBECONFIG | the cluster; its namespaces polyshare and polyshare-jobs are made and destroyed |
| POLYSHARE_TEST_INGRESS | host:port at which this machine reaches Knative's ingress |
| POLYSHARE_TEST_REGISTRY | host:port of a plain-HTTP registry that this machine pushes to and the nodes pull from |
| POLYSHARE_TEST_BASE | in that registry, a Debian with Python 3.11, a shell and busybox [python3:base] |
| POLYSHARE_TEST_FIGURES | a file for the figures, as JSON |

Images: tests/platform/images.py. Terraform finds its providers as always.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.cluster import environments
from tests.cluster.images import Registry
from tests.cluster.world import Cluster, kubectl
from tests.platform.deployment import NAMESPACE, STORE, Deployment, domain, forwarded
from tests.platform.figures import Figures
from tests.platform.names.sitecustomize import install
from tests.platform.user import User

_CRDS = {
    "services.serving.knative.dev": "Knative Serving",
    "triggers.eventing.knative.dev": "Knative Eventing",
    "workflows.argoproj.io": "Argo Workflows",
}
_ENVIRONMENTS = "polyshare/env-"  # prefix of the images of uv: environments


def _missing() -> str | None:
    for program in ("kubectl", "terraform"):
        if shutil.which(program) is None:
            return f"there is no {program} on PATH"
    for name in ("KUBECONFIG", "POLYSHARE_TEST_INGRESS", "POLYSHARE_TEST_REGISTRY"):
        if not os.environ.get(name):
            return f"{name} is not set: tests/platform/conftest.py says what it is"
    there = kubectl("get", "crd", "-o", "name", check=False)
    lacking = [what for crd, what in _CRDS.items() if crd not in there]
    if lacking:
        return f"the cluster of KUBECONFIG does not answer, or lacks {', '.join(lacking)}"
    if kubectl("get", "namespace", NAMESPACE, check=False):
        return f"the cluster has a namespace {NAMESPACE} already: destroy what is there first"
    base = os.environ.get("POLYSHARE_TEST_BASE", "python3:base")
    if not Registry(os.environ["POLYSHARE_TEST_REGISTRY"]).has(base):
        return f"the registry has no image {base}: push one and set POLYSHARE_TEST_BASE"
    return None


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    told = Figures()
    yield told
    print(f"\n{told.table()}")


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory, figures: Figures) -> Iterator[Deployment]:
    """Applied; destroyed at the end, whatever happened (KEEP=1 leaves it)."""
    missing = _missing()
    if missing is not None:
        pytest.skip(missing)
    registry, base = (
        Registry(os.environ["POLYSHARE_TEST_REGISTRY"]),
        os.environ.get("POLYSHARE_TEST_BASE", "python3:base"),
    )
    holder = cast(Cluster, SimpleNamespace(images=_ENVIRONMENTS, registry=registry, base=base))
    for name in ("sklearn", "translator-sklearn", "verify"):
        environments.push(holder, name)
    made = Deployment(tmp_path_factory.mktemp("deployment"), registry, base, _ENVIRONMENTS)
    try:
        figures.tell("apply until all is ready, s", f"{made.apply():.0f}")
        yield made
    finally:
        if not os.environ.get("KEEP"):
            figures.tell("destroy, s", f"{made.destroy():.0f}")


@pytest.fixture(scope="session")
def user(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Logged in as admin of `acme`, with one of the validators as the node that is believed."""
    with ExitStack() as opened:
        names = {
            f".{NAMESPACE}.{domain()}": os.environ["POLYSHARE_TEST_INGRESS"],
            STORE: f"127.0.0.1:{opened.enter_context(forwarded('service/store', 8333))}",
        }
        rpc = opened.enter_context(forwarded("pod/validator-3", 8545))
        install(names)
        found = User(tmp_path_factory.mktemp("user"), names)
        url = f"http://{{function}}.{NAMESPACE}.{domain()}"
        more: list[Any] = ["--organisation", "acme", "--trust-root", str(deployment.secrets / "trust-root.json")]
        found.polyshare("login", "--url", url, "--token", deployment.token(), "--rpc", f"http://127.0.0.1:{rpc}", *more)
        os.environ["XDG_STATE_HOME"] = str(found.home / "state")  # where the SDK keeps its idempotency keys
        yield found
