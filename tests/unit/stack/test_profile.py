"""Who the embedded issuer says one is, and which profile the CLI has."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from polyshare.assets import Role
from polyshare.auth import Authenticator
from polyshare.cli_stack import login
from polyshare.errors import Invalid, Misconfigured, Unauthenticated
from polyshare.stack.issuer import issue
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout, read_json, write_json
from polyshare.stack.profile import make_profile, save_as_current

ISSUER = "http://127.0.0.1:8080/issuer"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("POLYSHARE_CONFIG", str(tmp_path / "config/profile.json"))
    made = Layout(tmp_path / "data")
    made.make()
    Keyring(made).make()
    settings = {"functions_url": "http://127.0.0.1:8080/{function}", "jwt_issuer": ISSUER, "ledger_rpc": "http://x"}
    write_json(made.settings, settings | {"trust_root": {"chain_id": 1337, "registry": "0x00", "definitions": {}}})
    return made


def key_of(layout: Layout) -> dict[str, str]:
    key: dict[str, str] = read_json(Keyring(layout).path("issuer.jwk"))
    return key


def test_a_token_says_who_and_with_which_role(layout: Layout) -> None:
    token = issue(key_of(layout), ISSUER, "ann", {"acme": "publisher", "else": "reader"}, 60)
    caller = Authenticator(ISSUER, str(layout.jwks)).caller(f"Bearer {token}", time.time())
    assert caller.subject == "ann"
    assert caller.organisations == {"acme": Role.PUBLISHER, "else": Role.READER}


def test_a_token_ends(layout: Layout) -> None:
    token = issue(key_of(layout), ISSUER, "ann", {"acme": "publisher"}, 60)
    with pytest.raises(Unauthenticated):
        Authenticator(ISSUER, str(layout.jwks)).caller(f"Bearer {token}", time.time() + 61)


@pytest.mark.parametrize(
    ("subject", "organisations"),
    [("", {"a": "admin"}), ("x" * 256, {"a": "admin"}), ("ann", {"A b": "admin"}), ("ann", {"a": "king"})],
)
def test_no_token_for_what_is_no_user_organisation_or_role(
    layout: Layout, subject: str, organisations: dict[str, str]
) -> None:
    with pytest.raises(Invalid):
        issue(key_of(layout), ISSUER, subject, organisations, 60)


def test_published_keys_have_no_secret_and_secrets_are_made_once(layout: Layout) -> None:
    assert "d" not in json.loads(layout.jwks.read_bytes())["keys"][0]
    before = {path.name: path.read_bytes() for path in layout.secrets.iterdir()}
    Keyring(layout).make()
    assert {path.name: path.read_bytes() for path in layout.secrets.iterdir()} == before


def test_a_profile_of_a_registry_elsewhere_is_left_alone(layout: Layout, tmp_path: Path) -> None:
    current = tmp_path / "config/profile.json"
    assert save_as_current(make_profile(layout)) == current
    assert save_as_current(make_profile(layout)) == current
    write_json(current, {"url": "https://{function}.models.example.org", "token": "t"})
    assert save_as_current(make_profile(layout)) is None
    assert read_json(current)["token"] == "t"


def test_login_elsewhere_takes_a_url_and_a_token(layout: Layout, tmp_path: Path) -> None:
    url = "https://{function}.models.example.org"
    done = CliRunner().invoke(login, ["--url", url, "--organisation", "acme", "--json"], input="the-token\n")
    assert done.exit_code == 0, done.output
    assert "the-token" not in done.output
    assert read_json(tmp_path / "config/profile.json") == {
        "url": url,
        "token": "the-token",
        "organisation": "acme",
        "ledger": {},
    }


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--url", "https://x"], Misconfigured),
        (["--url", "https://{function}.x", "--role", "admin"], Invalid),
        (["--token", "x"], Invalid),
        (["--data", "/nowhere"], Misconfigured),
    ],
)
def test_a_login_that_makes_no_sense_changes_nothing(
    layout: Layout, tmp_path: Path, arguments: list[str], error: type[Exception]
) -> None:
    done = CliRunner().invoke(login, arguments, input="t\n")
    assert isinstance(done.exception, error)
    assert not (tmp_path / "config/profile.json").exists()
