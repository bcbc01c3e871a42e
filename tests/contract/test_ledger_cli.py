"""polyshare ledger, as who runs one uses it: told first, done with --yes, and nothing twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyshare.cli import main
from polyshare.ledger.read import check_trust_root
from polyshare.ledger.record import trust_root
from tests.contract.ledger_world import Chain, chain, free_port


@pytest.fixture(scope="module")
def anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with chain(tmp_path_factory.mktemp("chain")) as started:
        yield started


class Operator:
    """Types commands in a folder."""

    def __init__(self, folder: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.url, self._capsys = folder, url, capsys
        self.root = folder / "trust-root.json"

    def type(self, *words: object, code: int = 0) -> str:
        """What a command said, which ended with that code."""
        self._capsys.readouterr()
        assert main(["ledger", *map(str, words)]) == code
        said = self._capsys.readouterr()
        return said.out + said.err

    def json(self, *words: object) -> dict[str, Any]:
        self._capsys.readouterr()
        assert main(["ledger", *map(str, words), "--json"]) == 0
        answer: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return answer

    def key(self, name: str) -> tuple[Path, str]:
        """A key's file, made at first use, and its account."""
        path = self.folder / f"{name}.key"
        return path, self.json("key", "--key-file", path)["address"]

    def on(self, key: Path) -> list[object]:
        return ["--rpc", self.url, "--trust-root", self.root, "--key-file", key]


@pytest.fixture
def operator(
    anvil: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Operator:
    monkeypatch.setenv("POLYSHARE_CONFIG", str(tmp_path / "profile.json"))
    return Operator(tmp_path, f"http://127.0.0.1:{free_port()},{anvil.rpc.url}", capsys)


def deployed(operator: Operator, owner: Path, *writers: str) -> dict[str, Any]:
    allowed = [word for writer in writers for word in ("--writer", writer)]
    command = ["deploy", "--rpc", operator.url, "--key-file", owner, *allowed, "--out", operator.root]
    return operator.json(*command, "--yes")


def test_a_key_is_made_once_and_only_its_account_is_shown(operator: Operator) -> None:
    path, address = operator.key("owner")
    assert operator.key("owner") == (path, address)
    said = operator.type("key", "--key-file", path)
    assert address in said
    assert path.read_text().strip() not in said


def test_a_deployment_is_told_then_done_then_found(operator: Operator, anvil: Chain) -> None:
    (owner, _), (_, writer) = operator.key("owner"), operator.key("writer")
    command = ["deploy", "--rpc", operator.url, "--key-file", owner, "--writer", writer, "--out", operator.root]
    before = anvil.rpc.height()
    told = operator.type(*command)
    assert "create the registry 0x" in told
    assert f"allow {writer} to write" in told
    assert "nothing was done: --yes does it" in told
    assert anvil.rpc.height() == before
    assert not operator.root.exists()
    done = operator.json(*command, "--yes")
    assert (done["done"], len(done["steps"]), done["out"]) == (True, 10, str(operator.root))
    document = json.loads(operator.root.read_text())
    assert document == done["trust_root"]
    check_trust_root(anvil.rpc.url, trust_root(document))
    height = anvil.rpc.height()
    assert operator.json(*command, "--yes") == {**done, "steps": []}
    operator.root.unlink()  # it is found by its key
    assert operator.json(*command, "--yes") == {**done, "steps": []}
    assert "nothing is to be done" in operator.type(*command)
    assert anvil.rpc.height() == height


def test_what_is_deployed_is_shown(operator: Operator, anvil: Chain) -> None:
    (owner, account), (_, writer) = operator.key("owner"), operator.key("writer")
    root = deployed(operator, owner, writer)["trust_root"]
    shown = operator.json("show", "--rpc", operator.url, "--trust-root", operator.root)
    assert shown == {
        "node": anvil.rpc.url,
        "chain_id": 1337,
        "block": anvil.rpc.height(),
        "registry": root["registry"],
        "records": 0,
        "owner": account,
        "pending_owner": None,
        "writers": [writer],
    }
    assert writer in operator.type("show", "--rpc", operator.url, "--trust-root", operator.root)


def test_a_writer_and_an_owner_are_rotated(operator: Operator) -> None:
    (old, _), (new, heir) = operator.key("owner"), operator.key("heir")
    (_, first), (_, second) = operator.key("first"), operator.key("second")
    deployed(operator, old, first)
    assert operator.json("allow", second, *operator.on(old))["done"] is False
    assert operator.json("allow", second, *operator.on(old), "--yes")["steps"] == [f"allow {second} to write"]
    operator.json("forbid", first, *operator.on(old), "--yes")
    assert operator.json("forbid", first, *operator.on(old))["steps"] == []
    assert "is offered to nobody" in operator.type("accept", *operator.on(new), "--yes", code=1)
    operator.json("transfer", heir, *operator.on(old), "--yes")
    operator.json("accept", *operator.on(new), "--yes")
    assert "is owned by" in operator.type("allow", first, *operator.on(old), "--yes", code=1)
    shown = operator.json("show", "--rpc", operator.url, "--trust-root", operator.root)
    assert (shown["owner"], shown["pending_owner"], shown["writers"]) == (heir, None, [second])


def test_what_is_wrong_is_named(operator: Operator, anvil: Chain) -> None:
    owner, account = operator.key("owner")
    root = deployed(operator, owner)["trust_root"]
    down = f"http://127.0.0.1:{free_port()}"
    assert "does not answer" in operator.type("deploy", "--rpc", down, "--key-file", owner, code=2)
    assert "a key is needed" in operator.type("deploy", "--rpc", operator.url, code=64)
    two = ["--key-file", owner, "--kms-key", "alias/x"]
    assert "two ledger keys are named" in operator.type("deploy", "--rpc", operator.url, *two, code=2)
    assert "is not an account" in operator.type("allow", "0x12", *operator.on(owner), code=64)
    nowhere = ["--out", operator.folder / "nowhere" / "root.json"]
    assert "is not there" in operator.type("deploy", "--rpc", operator.url, "--key-file", owner, *nowhere, code=64)
    operator.root.write_text(json.dumps({**root, "chain_id": 5}))
    command = ["deploy", "--rpc", operator.url, "--key-file", owner, "--out", operator.root, "--yes"]
    assert "is on chain 1337, the trust root on 5" in operator.type(*command, code=1)
    operator.root.write_text(json.dumps({**root, "registry": root["definitions"]["1"]}))
    assert "there is other code at" in operator.type(*command, code=1)
    assert account not in operator.type("show", *operator.on(owner)[:4], code=2)
    operator.root.write_text("{")
    assert "can't be read as a trust root" in operator.type(*command, code=2)


def test_login_pins_what_an_operator_gives_out(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    owner, account = operator.key("owner")
    deployed(operator, owner)
    url = "http://127.0.0.1:9/{function}"
    pinned = ["--rpc", operator.url, "--trust-root", str(operator.root)]
    assert main(["login", "--url", url, "--token", "t", *pinned]) == 0
    assert operator.json("show")["owner"] == account
    assert main(["login", "--rpc", operator.url]) == 1
