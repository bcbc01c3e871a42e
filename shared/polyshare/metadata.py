"""Metadata of an asset: a flat object whose fields are leaves of a salted Merkle tree.

The root is on the ledger, so one field can be shown and proven without telling the others. A leaf is
keccak256(bytes.concat(keccak256(abi.encode(salt, name, value)))), with the value in RFC 8785 form, and two nodes are
hashed in sorted order, so OpenZeppelin's MerkleProof verifies it (its double hash keeps a node from passing as a leaf).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import rfc8785

from polyshare.errors import Invalid

try:
    # Five times as fast, and a registration takes 27; its wheels are for Linux only.
    from sha3 import keccak_256 as _keccak
except ImportError:
    from Crypto.Hash import keccak

    def _keccak(data: bytes) -> Any:
        return keccak.new(data=data, digest_bits=256)


Scalar = str | int | float | bool | None
SCHEMA = 1
FEWEST_LEAVES = 16  # padded so that the number of leaves does not tell the number of fields
MOST_FIELDS = 256
LONGEST_VALUE = 16_384  # bytes of RFC 8785
_SAFE = 2**53


def keccak256(data: bytes) -> bytes:
    """Ethereum's hash, 32 bytes."""
    digest: bytes = _keccak(data).digest()
    return digest


@lru_cache(maxsize=1024)
def _place(name: str) -> bytes:
    """What fields are ordered by. Kept, as nearly all assets have the same few names."""
    return keccak256(name.encode())


def check_fields(fields: Mapping[str, object]) -> dict[str, Scalar]:
    """The same fields, if they are flat, named, and the same in every language; raises Invalid."""
    if len(fields) > MOST_FIELDS:
        raise Invalid(f"metadata has at most {MOST_FIELDS} fields, not {len(fields)}")
    checked: dict[str, Scalar] = {}
    for name, value in fields.items():
        if not isinstance(name, str) or not 0 < len(name.encode(errors="replace")) <= 128 or not name.isprintable():
            raise Invalid(f"metadata field name {str(name)[:100]!r} is not 1 to 128 bytes of printable text")
        if isinstance(value, bool) or value is None or isinstance(value, str):
            checked[name] = value
        elif isinstance(value, int):
            if abs(value) >= _SAFE:
                raise Invalid(
                    f"metadata field {name!r} is beyond ±2^53, which JSON numbers can't hold: write it as text"
                )
            checked[name] = value
        elif isinstance(value, float):
            if value != value or value in (float("inf"), float("-inf")):
                raise Invalid(f"metadata field {name!r} is not a finite number: write it as text")
            if value.is_integer() and abs(value) >= _SAFE:
                raise Invalid(f"metadata field {name!r} is beyond ±2^53: write it as text")
            checked[name] = value
        else:
            raise Invalid(f"metadata field {name!r} is nested ({type(value).__name__}): metadata is flat")
        try:
            encoded = rfc8785.dumps(checked[name])
        except (rfc8785.CanonicalizationError, UnicodeError) as error:
            raise Invalid(f"metadata field {name!r} has no canonical JSON form: {error}") from error
        if len(encoded) > LONGEST_VALUE:
            raise Invalid(f"metadata field {name!r} is longer than {LONGEST_VALUE} bytes: put it in a file")
    return checked


def parse_fields(text: str) -> dict[str, Scalar]:
    """Read a flat JSON object; raises Invalid, also on a field given twice."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for name, _ in pairs:
            if sum(1 for other, _ in pairs if other == name) > 1:
                raise Invalid(f"metadata field {name!r} is given twice")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=once)
    except ValueError as error:
        raise Invalid(f"metadata is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Invalid("metadata is a JSON object")
    return check_fields(value)


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    value: Scalar
    salt: bytes

    @property
    def leaf(self) -> bytes:
        return keccak256(keccak256(_abi_encode(self.salt, self.name.encode(), rfc8785.dumps(self.value))))


@dataclass(frozen=True, slots=True)
class Metadata:
    """Fields with their salts, in order of keccak256(name), and the random leaves that pad them."""

    fields: tuple[Field, ...]
    padding: tuple[bytes, ...]

    @classmethod
    def seal(cls, fields: Mapping[str, object], random: Callable[[int], bytes]) -> Metadata:
        """Give each field a salt; `random(n)` returns n random bytes."""
        checked = check_fields(fields)
        ordered = sorted(checked.items(), key=lambda item: _place(item[0]))
        width = FEWEST_LEAVES
        while width < len(ordered):
            width *= 2
        return cls(
            tuple(Field(name, value, random(32)) for name, value in ordered),
            tuple(random(32) for _ in range(width - len(ordered))),
        )

    @classmethod
    def from_json(cls, document: object) -> Metadata:
        """Read what `to_json` wrote; raises Invalid."""
        try:
            if not isinstance(document, dict) or document["schema"] != SCHEMA:
                raise ValueError("schema")
            fields = tuple(Field(f["name"], f["value"], bytes.fromhex(f["salt"])) for f in document["fields"])
            padding = tuple(bytes.fromhex(leaf) for leaf in document["padding"])
            if any(len(x) != 32 for x in (*padding, *(f.salt for f in fields))):
                raise ValueError("length")
        except (KeyError, TypeError, ValueError) as error:
            raise Invalid("this is not a metadata document of polyshare (schema 1)") from error
        check_fields({f.name: f.value for f in fields})
        if [f.name for f in fields] != sorted({f.name for f in fields}, key=_place):
            raise Invalid("the fields of a metadata document are in order of keccak256(name), each once")
        count = len(fields) + len(padding)
        if count < FEWEST_LEAVES or count & (count - 1):
            raise Invalid(f"a metadata document has a power of two of leaves, at least {FEWEST_LEAVES}, not {count}")
        return cls(fields, padding)

    def to_json(self) -> dict[str, object]:
        return {
            "schema": SCHEMA,
            "fields": [{"name": f.name, "value": f.value, "salt": f.salt.hex()} for f in self.fields],
            "padding": [leaf.hex() for leaf in self.padding],
        }

    def __getitem__(self, name: str) -> Scalar:
        return self.values()[name]

    def values(self) -> dict[str, Scalar]:
        """The fields without their salts."""
        return {f.name: f.value for f in self.fields}

    @property
    def root(self) -> bytes:
        """32 bytes on the ledger."""
        return self._levels()[-1][0]

    def prove(self, name: str) -> tuple[Field, list[bytes]]:
        """A field and the hashes that lead from its leaf to the root; raises Invalid if there is no such field."""
        index = next((i for i, f in enumerate(self.fields) if f.name == name), None)
        if index is None:
            raise Invalid(f"the metadata has no field {name!r}")
        wanted = self.fields[index]
        proof = []
        for level in self._levels()[:-1]:
            proof.append(level[index ^ 1])
            index //= 2
        return wanted, proof

    def _levels(self) -> list[list[bytes]]:
        levels = [[f.leaf for f in self.fields] + list(self.padding)]
        while len(levels[-1]) > 1:
            below = levels[-1]
            levels.append([_node(below[i], below[i + 1]) for i in range(0, len(below), 2)])
        return levels


def verify_field(field: Field, proof: list[bytes], root: bytes) -> bool:
    """Whether the proof leads from the field to the root."""
    node = field.leaf
    for sibling in proof:
        node = _node(node, sibling)
    return node == root


def _node(a: bytes, b: bytes) -> bytes:
    return keccak256(a + b if a < b else b + a)


def _abi_encode(salt: bytes, name: bytes, value: bytes) -> bytes:
    """abi.encode(bytes32, string, string) of the Solidity ABI; a test checks it against eth-abi, slow to import."""

    def tail(data: bytes) -> bytes:
        return len(data).to_bytes(32, "big") + data + bytes(-len(data) % 32)

    first = tail(name)
    return salt + (96).to_bytes(32, "big") + (96 + len(first)).to_bytes(32, "big") + first + tail(value)
