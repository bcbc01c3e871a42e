import json
import math
import sys
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import pytest
from eth_abi import encode  # type: ignore[attr-defined]
from eth_utils import keccak  # type: ignore[attr-defined]
from hypothesis import given
from hypothesis import strategies as st

from polyshare.errors import Invalid
from polyshare.metadata import Field, Metadata, check_fields, keccak256, parse_fields, verify_field

VECTORS = Path(__file__).parents[1] / "vectors" / "metadata.json"
FIELDS: dict[str, Any] = {
    "name": "digits",
    "rows": 1797,
    "licence": "CC BY 4.0",
    "ratio": 0.25,
    "open": True,
    "note": None,
}


def counting() -> Any:
    state = [0]

    def random(count: int) -> bytes:
        state[0] += 1
        return keccak256(state[0].to_bytes(4, "big"))[:count]

    return random


def test_every_field_is_proven_against_the_root_without_the_others() -> None:
    sealed = Metadata.seal(FIELDS, counting())
    assert len(sealed.fields) + len(sealed.padding) == 16
    for name, value in FIELDS.items():
        field, proof = sealed.prove(name)
        assert field.value == value
        assert verify_field(field, proof, sealed.root)
        assert not verify_field(Field(name, "other", field.salt), proof, sealed.root)


@pytest.mark.parametrize("library", ["sha3", "Crypto.Hash"])
def test_either_library_hashes_as_ethereum(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that there is a wheel of is taken; here both are installed."""
    pytest.importorskip(library)
    if library != "sha3":
        monkeypatch.setitem(sys.modules, "sha3", None)
    spec = find_spec("polyshare.metadata")
    assert spec is not None
    assert spec.loader is not None
    anew = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, anew)
    spec.loader.exec_module(anew)
    assert ("keccak" in vars(anew)) == (library != "sha3")
    # Of the Ethereum Yellow Paper, appendix: KEC of nothing; and over more than one block of 136 bytes.
    assert anew.keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert anew.keccak256(bytes(200)) == keccak(bytes(200))


def test_leaves_are_what_solidity_computes() -> None:
    field = Field("licence", "CC BY 4.0", bytes(range(32)))
    inner = encode(["bytes32", "string", "string"], [field.salt, "licence", '"CC BY 4.0"'])
    assert field.leaf == keccak256(keccak256(inner))


def test_the_committed_vectors_hold() -> None:
    vectors = json.loads(VECTORS.read_text())
    sealed = Metadata.seal(vectors["fields"], counting())
    assert sealed.to_json() == vectors["document"]
    assert sealed.root.hex() == vectors["root"]
    for name, proof in vectors["proofs"].items():
        assert [step.hex() for step in sealed.prove(name)[1]] == proof


def test_a_document_reads_back_and_a_changed_one_has_another_root() -> None:
    sealed = Metadata.seal(FIELDS, counting())
    document = sealed.to_json()
    assert Metadata.from_json(json.loads(json.dumps(document))) == sealed
    document["fields"][0]["value"] = "changed"  # type: ignore[index]
    assert Metadata.from_json(document).root != sealed.root
    document["fields"].reverse()  # type: ignore[attr-defined]
    with pytest.raises(Invalid):
        Metadata.from_json(document)


def test_equal_fields_sealed_twice_share_nothing() -> None:
    import os

    one, other = Metadata.seal(FIELDS, os.urandom), Metadata.seal(FIELDS, os.urandom)
    assert {f.leaf for f in one.fields}.isdisjoint(f.leaf for f in other.fields)


def test_more_than_sixteen_fields_are_padded_to_the_next_power_of_two() -> None:
    sealed = Metadata.seal({f"f{n}": n for n in range(17)}, counting())
    assert len(sealed.fields) + len(sealed.padding) == 32
    field, proof = sealed.prove("f16")
    assert len(proof) == 5
    assert verify_field(field, proof, sealed.root)


@pytest.mark.parametrize(
    "fields",
    [{"a": 2**53}, {"a": -(2**53)}, {"a": math.nan}, {"a": math.inf}, {"a": {"b": 1}}, {"a": [1]}, {"": 1}, {"a\n": 1},
     {"x" * 129: 1}, {"a": "x" * 20_000}, {"a": "\ud800"}, {"a": 1e300}, {f"f{n}": n for n in range(257)}],
)  # fmt: skip
def test_what_can_not_be_the_same_everywhere_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        check_fields(fields)


def test_a_field_given_twice_is_refused() -> None:
    with pytest.raises(Invalid, match="twice"):
        parse_fields('{"a": 1, "a": 2}')


@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1), st.integers(-(2**53) + 1, 2**53 - 1) | st.text("xyz") | st.booleans()
    )
)
def test_any_fields_can_be_sealed_and_read_back(fields: dict[str, Any]) -> None:
    sealed = Metadata.seal(fields, counting())
    assert sealed.values() == fields
    assert Metadata.from_json(sealed.to_json()).root == sealed.root
