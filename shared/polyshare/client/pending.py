"""The idempotency keys of registrations that are not acknowledged yet, so that the same command goes on with them.

A key is made when a registration begins and forgotten when it is acknowledged: interrupted, the same registration has
the same key; done, the same registration once more is a new one.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

_DAYS = 2  # an upload expires sooner


@dataclass(frozen=True, slots=True)
class Pending:
    key: str
    resumed: bool
    path: Path | None

    def forget(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def begin(request: bytes, *, fresh: bool = False, environ: Mapping[str, str] | None = None) -> Pending:
    """The key of this registration; a new one with `fresh`, and where there is no place to keep it."""
    environ = os.environ if environ is None else environ
    try:
        state = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        path = _folder(state) / sha256(request).hexdigest()
        if fresh:
            path.unlink(missing_ok=True)
        try:
            with path.open("x") as file:
                key = secrets.token_hex(16)
                file.write(key)
            return Pending(key, False, path)
        except FileExistsError:
            key = path.read_text()
            return Pending(key, True, path) if len(key) == 32 else begin(request, fresh=True, environ=environ)
    except (OSError, RuntimeError):
        return Pending(secrets.token_hex(16), False, None)


@cache
def _folder(state: str) -> Path:
    """Where the keys are, without those that are too old; looked after once by each process."""
    folder = Path(state) / "polyshare" / "uploads"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in folder.iterdir():
        if old.stat().st_mtime < time.time() - _DAYS * 86_400:
            old.unlink(missing_ok=True)
    return folder
