"""Records on the ledger (format 1): their bytes, the contract address that follows from them, and their digests.

A record is the immutable arguments of its asset's clone, so the clone's code is the record, and its address, a CREATE2
of the registry, the definition and the record, can be computed by anyone. Layout: contracts/src/RecordLayout.sol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polyshare.assets import Kind
from polyshare.errors import Invalid, Misconfigured
from polyshare.metadata import keccak256
from polyshare.ports import TrustRoot

SCHEMA = 1
MOST_PARENTS = 64
LONGEST = 4096  # bytes of a record

COMPLETED, FAILED = 1, 2  # outcomes of a job

_FIRST_LINK = 82
_SUPERSEDES = 0x80
_OWN_FIELDS = {Kind.DATASET: 0, Kind.MODEL: 32, Kind.IMPORTED_MODEL: 0, Kind.TRANSLATION: 34}
_FEWEST_PARENTS = {Kind.DATASET: 0, Kind.MODEL: 1, Kind.IMPORTED_MODEL: 0, Kind.TRANSLATION: 1}
# OpenZeppelin's clone with immutable arguments: what copies the code, and an ERC-1167 proxy around the definition.
_COPY = bytes.fromhex("3d81600a3d39f3")
_PROXY = bytes.fromhex("363d3d373d3d3d363d73"), bytes.fromhex("5af43d82803e903d91602b57fd5bf3")


@dataclass(frozen=True, slots=True)
class Record:
    """What the ledger says of an asset for good. Links are contract addresses (20 bytes); digests are 32 bytes.

    `environment` (sha256 of the pinned environment) goes with a model and a translation, `opset` with a translation.
    Raises Invalid when built from what no contract would take.
    """

    id: bytes
    kind: Kind
    commitment: bytes
    metadata_root: bytes
    supersedes: bytes | None = None
    parents: tuple[bytes, ...] = ()
    environment: bytes | None = None
    opset: int | None = None

    def __post_init__(self) -> None:
        label = self.kind.label
        if len(self.id) != 16 or not any(self.id):
            raise Invalid("a record's id is 16 bytes, not all zero")
        if len(self.commitment) != 32 or len(self.metadata_root) != 32:
            raise Invalid("a record's commitment and metadata root are 32 bytes each")
        if any(len(link) != 20 for link in (*self.parents, *([self.supersedes] if self.supersedes else []))):
            raise Invalid("a record's links are contract addresses of 20 bytes")
        if not _FEWEST_PARENTS[self.kind] <= len(self.parents) <= MOST_PARENTS:
            raise Invalid(
                f"a {label} has {_FEWEST_PARENTS[self.kind]} to {MOST_PARENTS} parents, not {len(self.parents)}"
            )
        wants_environment = _OWN_FIELDS[self.kind] >= 32
        if wants_environment != (self.environment is not None) or len(self.environment or bytes(32)) != 32:
            raise Invalid(f"the record of a {label} has {'an environment of 32 bytes' * wants_environment or 'none'}")
        wants_opset = _OWN_FIELDS[self.kind] == 34
        if wants_opset != (self.opset is not None) or not 0 <= (self.opset or 0) < 2**16:
            raise Invalid(f"the record of a {label} has {'an opset below 65536' * wants_opset or 'no opset'}")

    def encode(self) -> bytes:
        """The packed record."""
        return b"".join(
            (
                bytes([SCHEMA]),
                self.id,
                self.commitment,
                self.metadata_root,
                bytes([len(self.parents) | (_SUPERSEDES if self.supersedes else 0)]),
                self.supersedes or b"",
                *self.parents,
                self.environment or b"",
                b"" if self.opset is None else self.opset.to_bytes(2, "big"),
            )
        )

    @classmethod
    def decode(cls, kind: int, data: bytes) -> Record:
        """Read a packed record; raises Invalid on anything that the registry would reject."""
        if kind not in _OWN_FIELDS:
            raise Invalid(f"there is no kind {kind} of asset; known are 1 to {max(_OWN_FIELDS)}")
        kind = Kind(kind)
        if len(data) < _FIRST_LINK or data[0] != SCHEMA:
            raise Invalid(f"this is not a record of schema {SCHEMA}: {len(data)} bytes beginning {data[:1].hex()!r}")
        links = data[_FIRST_LINK - 1]
        count = (links & ~_SUPERSEDES) + bool(links & _SUPERSEDES)
        expected = _FIRST_LINK + 20 * count + _OWN_FIELDS[kind]
        if len(data) != expected:
            raise Invalid(f"the record of a {kind.label} with {count} links has {expected} bytes, not {len(data)}")
        addresses = [data[_FIRST_LINK + 20 * i : _FIRST_LINK + 20 * (i + 1)] for i in range(count)]
        own = data[_FIRST_LINK + 20 * count :]
        return cls(
            id=data[1:17],
            kind=kind,
            commitment=data[17:49],
            metadata_root=data[49:81],
            supersedes=addresses[0] if links & _SUPERSEDES else None,
            parents=tuple(addresses[1:] if links & _SUPERSEDES else addresses),
            environment=own[:32] if own else None,
            opset=int.from_bytes(own[32:], "big") if own[32:] else None,
        )


def clone_code(definition: bytes, record: bytes) -> bytes:
    """The code that the contract of a record has."""
    return _PROXY[0] + definition + _PROXY[1] + record


def record_of(code: bytes) -> tuple[bytes, bytes]:
    """The definition and the record in the code of an asset's contract; raises Invalid if it is something else."""
    before, after = _PROXY
    start = len(before) + 20
    if not code.startswith(before) or code[start : start + len(after)] != after:
        raise Invalid("the code at this address is not that of an asset's contract")
    return code[len(before) : start], code[start + len(after) :]


def init_code(definition: bytes, record: bytes) -> bytes:
    """The code that creates the contract of a record."""
    code = clone_code(definition, record)
    return b"\x61" + len(code).to_bytes(2, "big") + _COPY + code


def asset_address(trust_root: TrustRoot, kind: int, record: bytes) -> bytes:
    """Where the contract of a record is or will be (CREATE2, EIP-1014). Raises Invalid on an unknown kind."""
    definition = trust_root.definitions.get(kind)
    if definition is None:
        raise Invalid(f"the trust root has no definition for kind {kind}: it is from an older polyshare")
    salt = record[1:17] + bytes(16)
    return keccak256(b"\xff" + trust_root.registry + salt + keccak256(init_code(definition, record)))[12:]


def result_digest(outcome: int, commitment: bytes, metadata_root: bytes, provenance: bytes) -> bytes:
    """What the result slot holds: keccak256(abi.encode(schema, outcome, commitment, metadata root, provenance))."""
    return keccak256(_word(SCHEMA) + _word(outcome) + commitment + metadata_root + provenance)


def revocation_digest(reason: str, at: int) -> bytes:
    """What the revocation slot holds: keccak256(abi.encode(string reason, uint64 Unix seconds))."""
    text = reason.encode()
    return keccak256(_word(64) + _word(at) + _word(len(text)) + text + bytes(-len(text) % 32))


def trust_root(document: Mapping[str, Any]) -> TrustRoot:
    """Read a trust root as settings and profiles keep it; raises Misconfigured."""
    try:
        root = TrustRoot(
            chain_id=int(document["chain_id"]),
            registry=_address(document["registry"]),
            definitions={int(kind): _address(value) for kind, value in document["definitions"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Misconfigured(
            "the ledger's trust root is missing or not of the form {chain_id, registry, definitions}: "
            f"set POLYSHARE_TRUST_ROOT to what the deployment printed ({error!r})"
        ) from error
    return root


def trust_root_document(root: TrustRoot) -> dict[str, Any]:
    """What `trust_root` reads, as JSON."""
    return {
        "chain_id": root.chain_id,
        "registry": "0x" + root.registry.hex(),
        "definitions": {str(kind): "0x" + address.hex() for kind, address in root.definitions.items()},
    }


def _address(text: str) -> bytes:
    value = bytes.fromhex(text.removeprefix("0x"))
    if len(value) != 20:
        raise ValueError(f"{text!r} is not an address")
    return value


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
