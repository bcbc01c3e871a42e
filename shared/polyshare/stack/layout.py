"""Where the embedded stack keeps what it keeps: one data folder that only its owner may read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths inside a data folder."""

    data: Path

    @classmethod
    def find(cls, data: str | Path | None = None) -> Layout:
        """The folder given, else $POLYSHARE_DATA, else ~/.local/share/polyshare."""
        chosen = data or os.environ.get("POLYSHARE_DATA") or Path.home() / ".local/share/polyshare"
        return cls(Path(chosen).expanduser().absolute())

    @property
    def lock(self) -> Path:
        """Held by the running supervisor; holds its process id."""
        return self.data / "lock"

    @property
    def log(self) -> Path:
        return self.data / "log"

    @property
    def secrets(self) -> Path:
        return self.data / "secrets"

    @property
    def store(self) -> Path:
        """SeaweedFS: `volumes` has the data, `conf` is its working folder."""
        return self.data / "store"

    @property
    def runner(self) -> Path:
        return self.data / "runner"

    @property
    def environments(self) -> Path:
        """Installed environments of jobs, by name and digest; $POLYSHARE_ENVIRONMENTS is kept by several stacks."""
        return Path(os.environ.get("POLYSHARE_ENVIRONMENTS") or self.data / "environments")

    @property
    def database(self) -> Path:
        return self.data / "catalogue.sqlite"

    @property
    def settings(self) -> Path:
        """What the functions and the runner read (POLYSHARE_SETTINGS)."""
        return self.data / "settings.json"

    @property
    def stack(self) -> Path:
        """What runs: URLs, process ids, trust root."""
        return self.data / "stack.json"

    @property
    def ports(self) -> Path:
        return self.data / "ports.json"

    @property
    def trust_root(self) -> Path:
        return self.data / "trust_root.json"

    @property
    def jwks(self) -> Path:
        return self.data / "jwks.json"

    @property
    def profile(self) -> Path:
        """The CLI's profile for this stack."""
        return self.data / "profile.json"

    def make(self) -> None:
        for folder in (self.data, self.log, self.secrets, self.store / "volumes", self.store / "conf", self.runner):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.data.chmod(0o700)


def write_private(path: Path, content: str | bytes) -> None:
    """Put a file in place, whole and on disk, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_private(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The file's value; None if there is no such file or it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
