"""A ledger key that AWS KMS keeps, against moto's KMS: what it signs, a real chain takes.

moto signs with real keys, but leaves out MessageType: it hashes what it is given once more. Here it signs the
digest that it is given, as AWS does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.utils import ECDSAPrivateKey
from moto.server import ThreadedMotoServer

from polyshare.cli import main
from polyshare.errors import Misconfigured, Unavailable
from polyshare.ledger.chain import ChainLedger
from polyshare.ledger.deploy import deploy
from polyshare.ledger.keys import ORDER, find_signer
from polyshare.ledger.kms import KmsSigner
from polyshare.ledger.signing import sign_transaction
from polyshare.metadata import keccak256
from tests.contract.ledger_world import Assets, Chain, chain, free_port

REGION = "eu-central-1"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with chain(tmp_path_factory.mktemp("chain")) as started:
        yield started


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture(autouse=True)
def environment(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def sign(self: Any, message: bytes, signing_algorithm: str) -> bytes:
        assert signing_algorithm == "ECDSA_SHA_256"
        return self.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))

    monkeypatch.setattr(ECDSAPrivateKey, "sign", sign)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)


def make_kms_key(spec: str = "ECC_SECG_P256K1", usage: str = "SIGN_VERIFY") -> str:
    """The key's ARN."""
    made = boto3.client("kms", region_name=REGION).create_key(KeySpec=spec, KeyUsage=usage)
    arn: str = made["KeyMetadata"]["Arn"]
    return arn


def test_what_kms_signs_is_a_low_signature_of_its_account_whatever_half_it_comes_in() -> None:
    signer = find_signer("", make_kms_key())
    assert signer is not None
    halves = set()
    for nonce in range(24):
        _, s = signer.sign(keccak256(bytes([nonce])))
        halves.add(s > ORDER // 2)
        signed = sign_transaction(signer, chain_id=1337, nonce=nonce, gas=21_000, to=b"t" * 20, data=b"")
        assert _sender(signed.raw) == signed.sender == signer.address
    assert halves == {True, False}


def _sender(raw: bytes) -> bytes:
    from eth_account import Account

    return bytes.fromhex(Account.recover_transaction(raw)[2:])


def test_a_chain_takes_what_a_writer_in_kms_signs(running: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    arn = make_kms_key()
    signer = KmsSigner(arn.rpartition("/")[2])  # by its id, then the region is the environment's
    assert signer.address == KmsSigner(arn).address
    deploy(running.rpc, running.owner, [signer.address])
    ledger, assets = ChainLedger(running.rpc, running.trust_root, signer), Assets(running.trust_root)
    for nonce in range(6):
        entry = assets.record()
        signed = ledger.sign([entry], nonce)
        ledger.send(signed.raw)
        receipt = ledger.receipt(signed.hash, wait=10)
        assert receipt is not None
        assert receipt.succeeded
        assert ledger.asset(assets.address(entry)).code


def test_a_registry_is_deployed_by_an_owner_in_kms(
    running: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arn, out = make_kms_key(), tmp_path / "trust-root.json"
    assert main(["ledger", "key", "--kms-key", arn]) == 0
    address = capsys.readouterr().out.strip()
    command = ["ledger", "deploy", "--rpc", running.rpc.url, "--kms-key", arn, "--writer", address, "--json"]
    assert main([*command, "--out", str(out), "--yes"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert len(done["steps"]) == 10
    assert main([*command, "--yes"]) == 0  # found by its key
    assert json.loads(capsys.readouterr().out) == {**done, "steps": [], "out": None}
    assert json.loads(out.read_text()) == done["trust_root"]


@pytest.mark.parametrize(("spec", "usage"), [("ECC_NIST_P256", "SIGN_VERIFY"), ("RSA_2048", "SIGN_VERIFY")])
def test_a_key_of_another_kind_is_refused(spec: str, usage: str) -> None:
    with pytest.raises(Misconfigured, match="ECC_SECG_P256K1 for SIGN_VERIFY"):
        KmsSigner(make_kms_key(spec, usage))


def test_a_key_that_is_not_there_a_region_and_credentials_that_are_not_set_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arn = make_kms_key()
    with pytest.raises(Misconfigured, match="kms:GetPublicKey and kms:Sign"):
        KmsSigner(arn[:-4] + "0000")
    with pytest.raises(Misconfigured, match="region"):
        KmsSigner("alias/writer")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(Misconfigured, match="credentials"):
        KmsSigner(arn)


def test_a_kms_that_is_down_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    arn = make_kms_key()
    signer = KmsSigner(arn)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="does not answer"):
        KmsSigner(arn)
    signer.sign(bytes(32))


def test_no_signer_shows_more_than_its_account() -> None:
    signer = KmsSigner(make_kms_key())
    assert repr(signer).endswith(f"0x{signer.address.hex()})")
