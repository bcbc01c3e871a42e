"""`polyshare rebuild`: a new catalogue from journal and ledger, put in the old one's place when it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from polyshare.errors import Unavailable
from polyshare.stack import listening
from polyshare.stack.embedded import Stack, hold
from polyshare.stack.layout import Layout, read_json

if TYPE_CHECKING:
    from polyshare.operations.rebuild import Rebuilt
    from polyshare.settings import Settings

PORT = 8080  # of the functions, which do not run meanwhile
_PATIENCE = 60.0  # seconds: a store that was killed answers for a while before it serves what it has


def rebuild_database(layout: Layout, *, say: Callable[[str], None]) -> dict[str, int]:
    """Counts of what was found. The old database is kept beside, with the time in its name. Raises Conflict while the
    stack runs."""
    from polyshare.settings import Settings

    with hold(layout):
        wanted = (read_json(layout.ports) or {}).get("functions", PORT)
        stack = Stack(layout, listening.choose_port(wanted, exactly=False), say=say)
        draft = layout.database.with_name(f".{layout.database.name}.new")
        try:
            stack.start_servers()
            settings = Settings.read({"POLYSHARE_SETTINGS": str(layout.settings)})
            found = _patiently(lambda: _rebuilt(settings, draft), say)
            if layout.database.exists():
                aside = layout.database.with_name(f"{layout.database.name}.before-{time.strftime('%Y%m%dT%H%M%S')}")
                _move(layout.database, aside)
                say(f"the old database is kept as {aside}")
            _move(draft, layout.database)
        finally:
            stack.stop()
            _remove(draft)
    return asdict(found)


def _rebuilt(settings: Settings, draft: Path) -> Rebuilt:
    from polyshare.bootstrap import build
    from polyshare.operations.rebuild import rebuild

    _remove(draft)
    ports = build(replace(settings, database=f"sqlite:///{draft}"))
    try:
        return rebuild(ports)
    finally:
        ports.catalogue.close()  # writes its log back into the file


def _patiently(act: Callable[[], Rebuilt], say: Callable[[str], None]) -> Rebuilt:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return act()
        except Unavailable as error:
            if time.monotonic() > until:
                raise
            say(f"it begins again: {error.message}")
            time.sleep(1)


def _files(database: Path) -> list[Path]:
    """SQLite's file, and those of its write-ahead log."""
    return [database.with_name(database.name + suffix) for suffix in ("-wal", "-shm", "")]


def _move(database: Path, to: Path) -> None:
    for path, target in zip(_files(database), _files(to), strict=True):
        if path.exists():
            path.rename(target)


def _remove(database: Path) -> None:
    for path in _files(database):
        path.unlink(missing_ok=True)
