"""Where the functions are, who is calling, and which ledger is believed: what `polyshare up` and `login` save."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyshare.errors import Misconfigured

if TYPE_CHECKING:
    from polyshare.ports import TrustRoot


@dataclass(frozen=True, slots=True)
class Profile:
    """`url` is a template with {function}; the ledger's addresses are pinned here, never taken from an answer."""

    url: str
    token: str = field(default="", repr=False)
    organisation: str | None = None
    ledger: Mapping[str, Any] = field(default_factory=dict)  # rpc, chain_id, registry, definitions: kind → address

    def __post_init__(self) -> None:
        if "{function}" not in self.url:
            raise Misconfigured(
                f"the URL {self.url!r} has no {{function}} in it: write it like http://127.0.0.1:8080/{{function}}"
            )

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Profile:
        """From the profile file, POLYSHARE_URL and POLYSHARE_TOKEN first. Raises Misconfigured saying what to do."""
        environ = os.environ if environ is None else environ
        path = profile_path(environ)
        given: dict[str, Any] = {}
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise Misconfigured(f"{path} holds a token and others can read it: chmod 600 {path}")
                given = json.load(file)
            if not isinstance(given, dict):
                raise ValueError("not a JSON object")
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise Misconfigured(
                f"{path} can't be read as a profile: {error}; write it anew by polyshare login"
            ) from error
        url = environ.get("POLYSHARE_URL") or given.get("url")
        if not url:
            raise Misconfigured(
                "no registry is set: start one with polyshare up, or name one with polyshare login --url …"
            )
        return cls(
            url=str(url),
            token=environ.get("POLYSHARE_TOKEN") or str(given.get("token") or ""),
            organisation=given.get("organisation"),
            ledger=given.get("ledger") or {},
        )

    @property
    def rpc(self) -> str | None:
        """The ledger node's URL."""
        return self.ledger.get("rpc")

    def trust_root(self) -> TrustRoot | None:
        """The pinned chain and contracts; None if none are pinned. Raises Misconfigured on what is not addresses."""
        if not self.ledger.get("registry"):
            return None
        from polyshare.assets import Kind
        from polyshare.ports import TrustRoot

        kinds = {kind.label: int(kind) for kind in Kind}
        try:
            return TrustRoot(
                chain_id=int(self.ledger["chain_id"]),
                registry=_address(self.ledger["registry"]),
                definitions={
                    kinds[kind] if kind in kinds else int(kind): _address(at)
                    for kind, at in self.ledger["definitions"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Misconfigured(f"the profile's ledger is not a trust root ({error}): polyshare login anew") from error


def profile_path(environ: Mapping[str, str]) -> Path:
    """$POLYSHARE_CONFIG, else ~/.config/polyshare/profile.json."""
    if environ.get("POLYSHARE_CONFIG"):
        return Path(environ["POLYSHARE_CONFIG"])
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "polyshare" / "profile.json"


def _address(text: str) -> bytes:
    address = bytes.fromhex(text.removeprefix("0x"))
    if len(address) != 20:
        raise ValueError(f"{text} is not an address")
    return address
