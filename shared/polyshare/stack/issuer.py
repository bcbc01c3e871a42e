"""The embedded stack's own OIDC issuer: signs the tokens of its users, and publishes its key."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polyshare.assets import Role, check_name
from polyshare.auth import AUDIENCE
from polyshare.errors import Invalid
from polyshare.stack.layout import Layout, read_json

if TYPE_CHECKING:
    from starlette.routing import Route

ALGORITHM = "ES256"


def issue(key: Mapping[str, str], issuer: str, subject: str, organisations: Mapping[str, str], seconds: float) -> str:
    """A JWT by which `subject` has these roles in these organisations for `seconds`. Raises Invalid."""
    from joserfc import jwt
    from joserfc.jwk import ECKey

    if not 1 <= len(subject) <= 255:
        raise Invalid("a user's name has 1 to 255 characters")
    for organisation, role in organisations.items():
        check_name(organisation, "organisation")
        if role.upper() not in Role.__members__:
            raise Invalid(f"role {role!r} is none of {', '.join(Role.__members__).lower()}")
    now = int(time.time())
    claims = {
        "iss": issuer,
        "sub": subject,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + int(seconds),
        "jti": uuid.uuid4().hex,
        "orgs": dict(organisations),
    }
    token: str = jwt.encode({"alg": ALGORITHM, "kid": key["kid"]}, claims, ECKey.import_key(dict(key)))
    return token


def issuer_url(functions_url: str) -> str:
    return functions_url.removesuffix("/{function}") + "/issuer"


def issuer_routes(layout: Layout) -> list[Route]:
    """What an OIDC client asks an issuer for: the discovery document and the keys."""
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def configuration(request: Request) -> JSONResponse:
        settings: dict[str, Any] = read_json(layout.settings) or {}
        issuer = settings.get("jwt_issuer", "")
        document = {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/jwks.json",
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
        }
        return JSONResponse(document)

    async def keys(request: Request) -> JSONResponse:
        return JSONResponse(json.loads(layout.jwks.read_bytes()))

    return [
        Route("/issuer/.well-known/openid-configuration", configuration),
        Route("/issuer/jwks.json", keys),
    ]
