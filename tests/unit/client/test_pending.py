"""The keys of registrations that are not acknowledged yet."""

from __future__ import annotations

import os
import time
from pathlib import Path

from polyshare.client import pending


def test_a_registration_goes_on_with_its_key_until_it_is_forgotten(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    first = pending.begin(b"this", environ=environ)
    again, other = pending.begin(b"this", environ=environ), pending.begin(b"that", environ=environ)
    assert (again.key, again.resumed, other.resumed) == (first.key, True, False)
    assert other.key != first.key
    fresh = pending.begin(b"this", fresh=True, environ=environ)
    assert not fresh.resumed
    assert fresh.key != first.key
    fresh.forget()
    assert not pending.begin(b"this", environ=environ).resumed


def test_keys_of_uploads_that_expired_are_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "polyshare" / "uploads"
    folder.mkdir(parents=True)
    for name, days in (("old", 3), ("new", 1)):
        (folder / name).write_text("k" * 32)
        os.utime(folder / name, (time.time() - days * 86_400,) * 2)
    begun = pending.begin(b"this", environ={"XDG_STATE_HOME": str(tmp_path)})
    assert begun.path is not None
    assert {path.name for path in folder.iterdir()} == {"new", begun.path.name}


def test_without_a_place_to_keep_it_there_is_a_key(tmp_path: Path) -> None:
    (tmp_path / "polyshare").write_text("no folder")
    begun = pending.begin(b"this", environ={"XDG_STATE_HOME": str(tmp_path)})
    assert len(begun.key) == 32
    assert begun.path is None
