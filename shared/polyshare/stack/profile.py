"""The CLI's profile of an embedded stack: where it is, who its user is, and which ledger is believed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from polyshare.client.profile import profile_path
from polyshare.errors import Misconfigured
from polyshare.stack.issuer import issue
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout, read_json, write_json
from polyshare.stack.listening import HOST

USER, ORGANISATION, ROLE = "me", "local", "admin"
_SECONDS = 90 * 86_400.0  # that a token lives; each `up` makes a new one


def make_profile(
    layout: Layout, user: str = USER, organisations: dict[str, str] | None = None, seconds: float = _SECONDS
) -> dict[str, Any]:
    """A profile with a new token of this stack's issuer. Raises Misconfigured if there never was a stack here."""
    settings, key = read_json(layout.settings), read_json(Keyring(layout).path("issuer.jwk"))
    if settings is None or key is None:
        raise Misconfigured(
            f"there is no stack in {layout.data}: start one with polyshare up, or name its --data folder"
        )
    chosen = organisations or {ORGANISATION: ROLE}
    return {
        "url": settings["functions_url"],
        "token": issue(key, settings["jwt_issuer"], user, chosen, seconds),
        "organisation": next(iter(chosen)),
        "ledger": {"rpc": settings["ledger_rpc"], **settings["trust_root"]},
        "data": str(layout.data),
    }


def save_profile(path: Path, profile: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(path, profile)


def save_as_current(profile: dict[str, Any]) -> Path | None:
    """Make it the profile that the CLI reads, unless that is of a registry elsewhere; where it was saved."""
    path = profile_path(os.environ)
    known = read_json(path)
    if isinstance(known, dict) and urlsplit(str(known.get("url", ""))).hostname not in (HOST, "localhost", None):
        return None
    save_profile(path, profile)
    return path
