"""Tokens: only those of this registry's issuer, for it, and while they last."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from polyshare.assets import ANONYMOUS, Role
from polyshare.auth import AUDIENCE, Authenticator
from polyshare.errors import Misconfigured, Unauthenticated, Unavailable
from tests.unit.http_world import ISSUER, HttpWorld
from tests.world import ALICE

NOW = 1_700_000_000.0


@pytest.fixture
def http(tmp_path: Path) -> HttpWorld:
    return HttpWorld(tmp_path)


def refused(http: HttpWorld, token: str) -> str:
    """Refused on a route for users, and on one for anyone too: a wrong token is not the same as none."""
    for function, path in (("govern", "/audit"), ("catalogue", "/")):
        reply = http.call(function, "GET", path, token=token)
        assert (reply.status, reply.problem) == (401, "unauthenticated"), reply
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert token not in reply.detail
    return reply.detail


def unsigned(header: Any, claims: Any, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def hs256(header: Any, claims: Any, secret: bytes) -> str:
    """Signed with a public key taken for a shared secret, as an attacker can."""
    head = unsigned(header, claims).rpartition(".")[0]
    signature = hmac.new(secret, head.encode(), "sha256").digest()
    return f"{head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def claims_of(http: HttpWorld) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 3600, "orgs": {"acme": "admin"}}


def test_a_good_token_says_who_is_calling(http: HttpWorld) -> None:
    assert http.call("govern", "GET", "/audit", query={"asset": "acme/x"}).status == 404
    authenticator = http.world.ports.authenticator
    assert authenticator.caller(f"Bearer {http.token()}", NOW) == ALICE
    assert authenticator.caller(f"bearer {http.token(aud=['other', AUDIENCE])}", NOW) == ALICE
    assert authenticator.caller(None, NOW) == ANONYMOUS


def test_no_token_is_refused_where_one_is_needed(http: HttpWorld) -> None:
    for function, method, path in (
        ("register_dataset", "POST", "/"),
        ("register_dataset", "POST", "/inbox"),
        ("register_model", "POST", "/"),
        ("translate", "POST", "/"),
        ("govern", "POST", "/acme%2Fx/revoke"),
        ("complete_job", "POST", "/x/start"),
    ):
        body = {"attempt": 1} if function == "complete_job" else {}
        reply = http.call(function, method, path, body, caller=None)
        assert (reply.status, reply.problem) == (401, "unauthenticated"), (function, reply)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "token", "Bearer\txyz", "Bearer ü"])
def test_a_header_that_is_no_bearer_token_is_refused(http: HttpWorld, header: str) -> None:
    reply = http.call("catalogue", "GET", caller=None, headers={"authorization": header})
    assert (reply.status, reply.problem) == (401, "unauthenticated")


def test_an_expired_token_is_refused_also_when_it_was_good_before(http: HttpWorld) -> None:
    token = http.token(exp=int(NOW) + 10)
    assert http.call("catalogue", "GET", token=token).status == 200
    http.clock.time = NOW + 11
    assert "expired" in refused(http, token)
    assert "expired" in refused(http, http.token(exp=int(NOW)))


def test_a_token_of_the_future_is_refused(http: HttpWorld) -> None:
    assert "clock" in refused(http, http.token(nbf=int(NOW) + 3600))
    assert http.call("catalogue", "GET", token=http.token(nbf=int(NOW) + 30)).status == 200


def test_a_token_of_another_issuer_or_audience_is_refused(http: HttpWorld) -> None:
    for claims in ({"iss": "https://evil.example.org"}, {"iss": None}, {"aud": "other"}, {"aud": None}, {"aud": []}):
        assert "issuer" in refused(http, http.token(**claims))


def test_a_forged_token_is_refused(http: HttpWorld) -> None:
    good = http.token()
    header, payload, signature = good.split(".")
    flipped = signature[:-4] + ("AAAA" if signature[-4:] != "AAAA" else "BBBB")
    claims = claims_of(http)
    for token in (
        f"{header}.{payload}.{flipped}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{unsigned({}, claims).split('.')[1]}.{signature}",
        http.token(key=ECKey.generate_key("P-256", {"kid": "first"})),
        http.token(key=ECKey.generate_key("P-256"), header={"kid": "second"}),
        unsigned({"alg": "none"}, claims),
        unsigned({"alg": "None", "kid": "first"}, claims),
        unsigned({"alg": "ES256", "kid": "first"}, claims),
        unsigned({"alg": "ES256", "kid": "first", "crit": ["x"]}, claims, b"x" * 64),
        hs256({"alg": "HS256", "kid": "first"}, claims, http.key.as_pem(private=False)),
        jwt.encode({"alg": "RS256", "kid": "first"}, claims, RSAKey.generate_key(2048)),
        jwt.encode({"alg": "ES256", "jwk": {}}, claims, ECKey.generate_key("P-256")),
        "a.b.c",
        "...",
        "." * 1000,
        "A" * 60_000,
        unsigned([], claims),
        unsigned({"alg": 5}, claims),
        unsigned({"alg": ["ES256"]}, claims),
        base64.urlsafe_b64encode(b"[" * 40_000).decode() + ".e30.AAAA",
    ):
        refused(http, token)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "tomorrow"},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "x" * 256},
        {"orgs": {"acme": "owner"}},
        {"orgs": "acme"},
        {"orgs": 5},
        {"orgs": {"acme": None}},
    ],
)
def test_a_signed_token_without_what_is_needed_is_refused(http: HttpWorld, claims: dict[str, Any]) -> None:
    refused(http, http.token(**claims))


def test_a_token_without_organisations_is_of_nobodys_organisation(http: HttpWorld) -> None:
    caller = http.world.ports.authenticator.caller(f"Bearer {http.token(orgs=None)}", NOW)
    assert (caller.subject, dict(caller.organisations)) == ("alice", {})


def test_roles_of_a_token_are_held_in_their_own_organisation_only(http: HttpWorld) -> None:
    token = http.token(orgs={"other": "admin", "acme": "reader"})
    digits = http.world.dataset(name="digits")
    assert http.call("query_status", "GET", f"/{digits.id}", token=token).status == 200
    assert http.call("govern", "POST", f"/{digits.id}/revoke", {"reason": "x"}, token=token).problem == "forbidden"
    assert http.call("govern", "GET", "/audit", token=token, query={"organisation": "acme"}).problem == "forbidden"


def test_a_missing_key_set_is_the_operators_affair(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="POLYSHARE_JWKS_FILE"):
        Authenticator(ISSUER, str(tmp_path / "nothing.json")).caller("Bearer a.b.c", NOW)
    http = HttpWorld(tmp_path)
    http.use(authenticator=Authenticator(ISSUER, str(tmp_path / "nothing.json")))
    reply = http.call("catalogue", "GET")
    assert (reply.status, reply.problem) == (500, "internal")
    assert "nothing.json" not in reply.body.decode()


class Issuer:
    """An OIDC issuer on this machine; counts how often its keys are asked for."""

    def __init__(self, *keys: ECKey) -> None:
        self.keys, self.asked = list(keys), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += self.path == "/keys"
                found = (
                    KeySet(outer.keys).as_dict(private=False)
                    if self.path == "/keys"
                    else {"jwks_uri": outer.url + "/keys"}
                )
                self.send_response(200 if outer.keys else 500)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, key: ECKey, kid: str) -> str:
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 3600, "orgs": {"acme": "reader"}}
        return str(jwt.encode({"alg": "ES256", "kid": kid}, claims, key))


def test_an_issuers_new_key_is_found_and_its_keys_are_remembered() -> None:
    first, second = (ECKey.generate_key("P-256", {"kid": kid}) for kid in ("first", "second"))
    issuer = Issuer(first)
    authenticator = Authenticator(issuer.url)
    for _ in range(3):
        assert authenticator.caller(f"Bearer {issuer.token(first, 'first')}", NOW).organisations == {
            "acme": Role.READER
        }
    assert issuer.asked == 1
    issuer.keys.append(second)
    assert authenticator.caller(f"Bearer {issuer.token(second, 'second')}", NOW + 20).subject == "alice"
    assert issuer.asked == 2


def test_forged_tokens_do_not_make_the_issuer_be_asked_each_time() -> None:
    key, other = (ECKey.generate_key("P-256", {"kid": "first"}) for _ in range(2))
    issuer = Issuer(key)
    authenticator = Authenticator(issuer.url)
    for number in range(50):
        with pytest.raises(Unauthenticated):
            authenticator.caller(f"Bearer {issuer.token(other, 'first')}{number}", NOW + number / 100)
    assert issuer.asked <= 2


def test_an_issuer_that_does_not_answer_is_told_as_such() -> None:
    issuer = Issuer()
    with pytest.raises(Unavailable, match="does not give its keys"):
        Authenticator(issuer.url).caller("Bearer a.b.c", NOW)
