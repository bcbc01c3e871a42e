"""A user of the deployment on this machine: the command line and the SDK, through the ingress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from polyshare import Client
from polyshare.client import Profile
from tests.cluster.world import wait
from tests.e2e.machine import Machine


class User(Machine):
    """Commands run with names of the platform resolved as `names` says (names/sitecustomize.py)."""

    def __init__(self, home: Path, names: dict[str, str]) -> None:
        folder = str(Path(__file__).with_name("names"))
        super().__init__(home, PYTHONPATH=folder, NAMES=json.dumps(names), XDG_STATE_HOME=str(home / "state"))

    def client(self) -> Client:
        return Client(Profile.read({"POLYSHARE_CONFIG": str(self.home / ".config/polyshare/profile.json")}))

    def status(self, asset: str) -> dict[str, Any]:
        return dict(json.loads(self.polyshare("status", asset, "--json", expect=None).stdout or "{}"))

    def until(self, asset: str, *states: str, seconds: float = 600) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def over() -> bool:
            nonlocal found
            found = self.status(asset)
            return found.get("state") in states

        wait(over, seconds, lambda: f"{asset} is not {states}: {json.dumps(found)[:3000]}")
        return found

    def verified(self, asset: str) -> dict[str, Any]:
        """Fetch an asset anew and verify it; its document."""
        folder = self.home / f"fetched-{asset.replace('/', '-')}"
        self.polyshare("fetch", asset, "-o", str(folder))
        self.polyshare("verify", str(folder))
        return dict(json.loads((folder / "polyshare.json").read_bytes()))
