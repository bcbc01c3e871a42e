"""Who is calling: bearer JWTs of an OIDC issuer (RFC 9068 in spirit), checked against the issuer's keys.

Roles come from the claim `orgs`: {organisation: reader | publisher | admin}.
"""

from __future__ import annotations

import base64
import hmac
import json
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

from polyshare.assets import ANONYMOUS, Caller, Role
from polyshare.errors import Misconfigured, Unauthenticated, Unavailable

AUDIENCE = "polyshare"
ALGORITHMS = ["EdDSA", "Ed25519", "ES256", "RS256"]
_KEYS_LIVE = 300.0  # seconds that an issuer's keys are used before they are asked for again
_REMEMBERED = 1024  # tokens whose signature was checked already


class Authenticator:
    """Reads tokens. One object a process; it remembers keys and checked tokens, never past their expiry."""

    def __init__(self, issuer: str, jwks_file: str = "") -> None:
        self._issuer, self._jwks_file = issuer, jwks_file
        self._keys: Any = None
        self._keys_read = float("-inf")
        self._known: dict[bytes, tuple[float, Caller]] = {}
        self._lock = threading.Lock()

    def caller(self, authorization: str | None, now: float) -> Caller:
        """The caller of a request with this Authorization header; anonymous without one. Raises Unauthenticated."""
        if authorization is None:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("the Authorization header is not `Bearer <token>`: get a token with polyshare login")
        fingerprint = sha256(token.encode()).digest()
        known = self._known.get(fingerprint)
        if known is None:
            known = self._check(token.strip(), now)
            with self._lock:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[fingerprint] = known
        if known[0] <= now:
            raise Unauthenticated("the token has expired: get a new one with polyshare login")
        return known[1]

    def known(self, authorization: str | None, now: float) -> Caller | None:
        """The caller, where that can be told at once: nobody's signature is checked, and nobody's keys are read."""
        if authorization is None:
            return ANONYMOUS
        expires, caller = self._known.get(sha256(authorization.partition(" ")[2].encode()).digest(), (0.0, None))
        return caller if expires > now and authorization[:7].lower() == "bearer " else None

    def _check(self, token: str, now: float) -> tuple[float, Caller]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        claims: dict[str, Any] = {}
        for fresh in (False, True):  # a key that is not known yet may be new
            try:
                claims = jwt.decode(token, self._key_set(now, fresh=fresh), algorithms=ALGORITHMS).claims
                break
            except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                if fresh:
                    raise Unauthenticated(
                        "the token is not signed by this registry's issuer: polyshare login"
                    ) from error
        if claims.get("iss") != self._issuer or AUDIENCE not in _listed(claims.get("aud")):
            raise Unauthenticated("the token is of another issuer or for another audience: polyshare login")
        expires, subject, organisations = claims.get("exp"), claims.get("sub"), claims.get("orgs", {})
        if not isinstance(expires, int | float) or not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise Unauthenticated("the token has no exp claim, or no sub claim of 1 to 255 characters")
        if isinstance(claims.get("nbf"), int | float) and claims["nbf"] > now + 60:
            raise Unauthenticated("the token is not valid yet: check this machine's clock")
        try:
            roles = {str(name): Role[str(role).upper()] for name, role in dict(organisations).items()}
        except (KeyError, TypeError, ValueError) as error:
            raise Unauthenticated("the token's orgs claim is not {organisation: reader | publisher | admin}") from error
        return float(expires), Caller(subject, roles)

    def _key_set(self, now: float, *, fresh: bool) -> Any:
        with self._lock:
            if self._keys is None or now - self._keys_read > _KEYS_LIVE or (fresh and now - self._keys_read > 10):
                self._keys, self._keys_read = self._read_keys(), now
            return self._keys

    def _read_keys(self) -> Any:
        from joserfc.jwk import KeySet

        if self._jwks_file:
            try:
                return KeySet.import_key_set(json.loads(Path(self._jwks_file).read_bytes()))
            except (OSError, ValueError) as error:
                raise Misconfigured(
                    f"POLYSHARE_JWKS_FILE names {self._jwks_file!r}, which is no key set: {error}"
                ) from error
        import httpx

        try:
            with httpx.Client(timeout=10, trust_env=False) as client:
                found = client.get(f"{self._issuer}/.well-known/openid-configuration").raise_for_status().json()
                return KeySet.import_key_set(client.get(found["jwks_uri"]).raise_for_status().json())
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise Unavailable(f"the issuer {self._issuer} does not give its keys: {error}") from error


def bearer_of_basic(authorization: str | None) -> str | None:
    """The header with a token that HTTP Basic carries as its password (RFC 7617), as a bearer's; others as they are.

    The user name is not looked at: who is calling is what the token says. Raises Unauthenticated.
    """
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        token = base64.b64decode(given.strip(), validate=True).decode().partition(":")[2]
    except ValueError as error:
        raise Unauthenticated("the Authorization header is not `Basic <base64 of user:token>`") from error
    if not token:
        raise Unauthenticated("the password is empty: it is the token, which polyshare login gets")
    return f"Bearer {token}"


def is_secret(given: str | None, expected: str) -> bool:
    """Whether an Authorization header carries this secret, in time that tells nothing of it."""
    return given is not None and hmac.compare_digest(given.encode(), f"Bearer {expected}".encode())


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
