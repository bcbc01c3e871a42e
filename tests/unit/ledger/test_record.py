"""Records, addresses and digests against the contracts' own vectors and the ABI's own encoder."""

import contextlib
import json
from pathlib import Path

import pytest
from eth_abi import encode
from hypothesis import given
from hypothesis import strategies as st

from polyshare.assets import Kind
from polyshare.errors import Invalid, Misconfigured
from polyshare.ledger.record import (
    LONGEST,
    Record,
    asset_address,
    clone_code,
    init_code,
    record_of,
    result_digest,
    revocation_digest,
    trust_root,
    trust_root_document,
)
from polyshare.metadata import keccak256
from polyshare.ports import TrustRoot

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "clone.json").read_bytes())
ROOT = trust_root({"chain_id": 1, **{k: VECTORS[k] for k in ("registry", "definitions")}})


def octets(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda v: v["name"])
def test_a_record_and_its_address_are_what_the_contracts_make_of_them(vector):
    record = Record.decode(vector["kind"], octets(vector["record"]))
    assert record.id == octets(vector["id"])
    assert record.commitment == octets(vector["commitment"])
    assert record.metadata_root == octets(vector["metadataRoot"])
    assert (record.supersedes or b"") == octets(vector["supersedes"])
    assert b"".join(record.parents) == octets(vector["parents"])
    own = (record.environment or b"") + (b"" if record.opset is None else record.opset.to_bytes(2, "big"))
    assert own == octets(vector["own"])
    assert record.encode() == octets(vector["record"])
    definition = ROOT.definitions[vector["kind"]]
    assert init_code(definition, record.encode()) == octets(vector["initCode"])
    assert asset_address(ROOT, vector["kind"], record.encode()) == octets(vector["address"])


def test_the_head_is_the_chain_over_the_addresses():
    head = bytes(32)
    for vector in VECTORS["records"]:
        head = keccak256(head + bytes(12) + octets(vector["address"]))
        assert head == octets(vector["head"])


@st.composite
def records(draw):
    kind = draw(st.sampled_from(Kind))
    trained = kind in (Kind.MODEL, Kind.TRANSLATION)
    return Record(
        id=draw(st.binary(min_size=16, max_size=16).filter(any)),
        kind=kind,
        commitment=draw(st.binary(min_size=32, max_size=32)),
        metadata_root=draw(st.binary(min_size=32, max_size=32)),
        supersedes=draw(st.none() | st.binary(min_size=20, max_size=20)),
        parents=tuple(
            draw(st.lists(st.binary(min_size=20, max_size=20), min_size=int(trained), max_size=64)),
        ),
        environment=draw(st.binary(min_size=32, max_size=32)) if trained else None,
        opset=draw(st.integers(0, 2**16 - 1)) if kind == Kind.TRANSLATION else None,
    )


@given(records())
def test_reading_a_record_gives_what_was_written(record):
    data = record.encode()
    assert len(data) <= LONGEST
    assert Record.decode(record.kind, data) == record
    definition = b"d" * 20
    assert record_of(clone_code(definition, data)) == (definition, data)


@given(records(), st.data())
def test_bytes_cut_off_or_added_are_refused(record, data):
    encoded = record.encode()
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:cut], encoded + b"\0", b"\2" + encoded[1:]):
        with pytest.raises(Invalid):
            Record.decode(record.kind, wrong)


@given(st.integers(0, 5), st.binary(max_size=400))
def test_any_bytes_are_a_record_or_invalid(kind, data):
    with contextlib.suppress(Invalid):
        assert Record.decode(kind, data).encode() == data


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": bytes(16)},
        {"id": b"x" * 15},
        {"commitment": b""},
        {"parents": (b"x" * 19,)},
        {"parents": (b"x" * 20,) * 65},
        {"environment": b"x" * 32},
        {"opset": 18},
        {"kind": Kind.MODEL},
        {"kind": Kind.MODEL, "environment": b"x" * 32},
        {"kind": Kind.TRANSLATION, "environment": b"x" * 32, "parents": (b"x" * 20,)},
        {"kind": Kind.TRANSLATION, "environment": b"x" * 32, "parents": (b"x" * 20,), "opset": 65536},
    ],
)
def test_a_record_can_not_hold_what_no_contract_takes(wrong):
    fields = {"id": b"i" * 16, "kind": Kind.DATASET, "commitment": b"c" * 32, "metadata_root": b"m" * 32}
    with pytest.raises(Invalid):
        Record(**{**fields, **wrong})


@given(st.integers(1, 2), *[st.binary(min_size=32, max_size=32)] * 3)
def test_a_result_digest_is_the_abi_encoding_hashed(outcome, commitment, root, provenance):
    types = ["uint8", "uint8", "bytes32", "bytes32", "bytes32"]
    expected = keccak256(encode(types, [1, outcome, commitment, root, provenance]))
    assert result_digest(outcome, commitment, root, provenance) == expected


@given(st.text(max_size=100), st.integers(0, 2**64 - 1))
def test_a_revocation_digest_is_the_abi_encoding_hashed(reason, at):
    assert revocation_digest(reason, at) == keccak256(encode(["string", "uint64"], [reason, at]))


def test_a_trust_root_reads_as_it_was_written_and_anything_else_is_named():
    root = TrustRoot(1337, b"r" * 20, {1: b"d" * 20})
    assert trust_root(json.loads(json.dumps(trust_root_document(root)))) == root
    for wrong in ({}, {"chain_id": 1, "registry": "0x12", "definitions": {}}, {"chain_id": 1, "registry": 5}):
        with pytest.raises(Misconfigured, match="POLYSHARE_TRUST_ROOT"):
            trust_root(wrong)


def test_an_unknown_kind_has_no_address():
    with pytest.raises(Invalid, match="kind 9"):
        asset_address(ROOT, 9, b"x" * 82)
