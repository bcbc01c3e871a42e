"""The images of uv: environments, from what this machine has prepared of them: the same lock, the same programs."""

from __future__ import annotations

from pathlib import Path

from polyshare.jobs import environment
from tests.cluster.world import ROOT, SITE, Cluster

_CACHE = ROOT / ".make" / "environments"


def push(cluster: Cluster, name: str) -> str:
    """Push `<prefix><name>:<digest>`, on the same Python as the base; returns its name."""
    reference = environment.resolve(f"uv:{name}")
    prepared = environment.prepare(reference, _CACHE)
    assert prepared.programs is not None
    packages = next(Path(prepared.programs.parent, "venv", "lib").glob("python*")) / "site-packages"
    image = f"polyshare-test/{name}:{environment.digest_of(reference).hex()[:32]}"
    if not cluster.registry.has(image):
        files = {
            SITE: packages,
            "/opt/polyshare/programs": prepared.programs,
            "/usr/local/bin/python": "/usr/bin/python3",
        }
        cluster.registry.push(image, cluster.base, files, {"Env": ["PYTHONUNBUFFERED=1"]})
    return image
