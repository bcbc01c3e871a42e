"""Whether a function has what it needs to serve: looked at when a platform's probe asks, at most once in some seconds.

Liveness is another question, which any answer at all answers: no process is started anew because its database is down.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from polyshare.bootstrap import Ports
from polyshare.errors import Misconfigured, PolyshareError
from polyshare.settings import read_secret

KNOWN_SECONDS = 2.0
_log = logging.getLogger("polyshare")


class Readiness:
    """What one function lacks, by name: "settings", "database", "trust_root", or the setting of a file."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._lacking: list[str] = []

    def lacking(self, ports: Callable[[], Ports]) -> list[str]:
        """The names of what is lacking. Why goes to the log, since it may name hosts and paths."""
        with self._lock:
            if time.monotonic() > self._until:
                found = self._look(ports)
                if found:
                    _log.warning("not ready: %s", "; ".join(f"{name}: {why}" for name, why in found.items()))
                self._lacking = list(found)
                self._until = time.monotonic() + KNOWN_SECONDS
            return self._lacking

    def _look(self, ports: Callable[[], Ports]) -> dict[str, str]:
        try:
            world = ports()
        except PolyshareError as error:
            return {"settings": error.message}
        checks: dict[str, Callable[[Ports], object]] = {"database": _database, "trust_root": _trust_root}
        checks |= {name: partial(_file, name) for name in self._files}
        lacking = {}
        for name, check in checks.items():
            try:
                check(world)
            except PolyshareError as error:
                lacking[name] = error.message
        return lacking


def _database(ports: Ports) -> None:
    """Newer tables are fine: a release's migration runs before it is rolled out."""
    from polyshare.catalogue.migrate import revision_of
    from polyshare.catalogue.tables import REVISION

    with ports.catalogue.reading() as connection:
        found = revision_of(connection)
    if found is None or found < REVISION:
        raise Misconfigured(
            f"the catalogue's database is at revision {found}, and this release needs {REVISION}: run"
            " python -m polyshare.catalogue upgrade"
        )


def _trust_root(ports: Ports) -> None:
    from polyshare.ledger.record import trust_root

    trust_root(ports.settings.trust_root)


def _file(name: str, ports: Ports) -> None:
    if name == "ledger_key_file" and ports.settings.ledger_kms_key:
        return  # a KMS keeps the key
    if not read_secret(getattr(ports.settings, name), name):
        raise Misconfigured(f"the file that POLYSHARE_{name.upper()} names is empty")
