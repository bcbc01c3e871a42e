"""Reading the ledger from a node, for the CLI and for verification: no web3, and nothing is believed but the node.

The trust root comes from the caller's own pins. Functions raise errors.Unavailable when the node does not answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyshare.errors import Mismatch, Unavailable
from polyshare.ledger import artifacts
from polyshare.ledger.rpc import Nodes, Rpc, hexadecimal, octets
from polyshare.metadata import keccak256
from polyshare.ports import AssetState, TrustRoot


def read_asset(url: str, address: bytes) -> AssetState:
    """Code, result and revocation of the contract at an address; what is absent was absent at the block."""
    with Nodes(url) as rpc:
        return asset_state(rpc, address)


@dataclass(frozen=True, slots=True)
class RegistryState:
    """How many assets the registry has, the chain over all their addresses, and the block it was read at."""

    count: int
    head: bytes
    block: int


def read_registry(url: str, registry: bytes) -> RegistryState:
    """Read count and head of one block; raises Unavailable if the chain moves on too fast for that."""
    with Nodes(url) as rpc:
        return registry_state(rpc, registry)


def registry_state(rpc: Rpc, registry: bytes) -> RegistryState:
    """As `read_registry`, over a connection that is there."""
    calls = [_eth_call(registry, selector("count()")), _eth_call(registry, selector("head()"))]
    for _ in range(10):  # by no block's number: a node need not keep the state of old ones
        block = rpc.call("eth_blockNumber")
        count, head = rpc.batch(calls)
        if rpc.call("eth_blockNumber") == block and octets(head):
            return RegistryState(int(count, 16), octets(head), int(block, 16))
    raise Unavailable(f"there is no registry at {hexadecimal(registry)}, or it is written to all the time")


def read_contract_of(url: str, registry: bytes, asset: bytes) -> bytes | None:
    """The contract that the registry names for an asset's id (16 bytes); None if it is not registered."""
    with Nodes(url) as rpc:
        answer = rpc.batch([_eth_call(registry, selector("contractOf(bytes16)") + asset + bytes(16))])[0]
    address = octets(answer)[12:]
    return address if any(address) else None


def check_trust_root(url: str, trust_root: TrustRoot) -> None:
    """Compare chain, registry and definitions with what this polyshare was built from; raises Mismatch naming which."""
    with Nodes(url) as rpc:
        check_contracts(rpc, trust_root)


def check_contracts(rpc: Rpc, trust_root: TrustRoot) -> None:
    """As `check_trust_root`, over a connection that is there."""
    names = {artifacts.REGISTRY: trust_root.registry} | {
        name: trust_root.definitions[kind]
        for kind, name in artifacts.DEFINITIONS.items()
        if kind in trust_root.definitions
    }
    chain, *codes = rpc.batch(
        [("eth_chainId", ()), *(("eth_getCode", (hexadecimal(address), "latest")) for address in names.values())]
    )
    if int(chain, 16) != trust_root.chain_id:
        raise Mismatch(f"the node at {rpc.url} is on chain {int(chain, 16)}, not {trust_root.chain_id}")
    for (name, address), code in zip(names.items(), codes, strict=True):
        if octets(code) != artifacts.expected_code(name, address, trust_root.registry):
            found = "is not that of this polyshare's contract" if octets(code) else "is missing"
            raise Mismatch(f"the code of {name} at {hexadecimal(address)} {found}: check the trust root and the node")
    asked = selector("definitionOf(uint8)")
    answers = rpc.batch([_eth_call(trust_root.registry, asked + _word(kind)) for kind in trust_root.definitions])
    for (kind, address), answer in zip(trust_root.definitions.items(), answers, strict=True):
        if octets(answer)[12:] != address:
            raise Mismatch(f"the registry's definition of kind {kind} is not {hexadecimal(address)}")


def asset_state(rpc: Rpc, address: bytes) -> AssetState:
    """As `read_asset`, over a connection that is there.

    Code and slots are written once: what is not there now was not there at the block asked for just before.
    """
    at = hexadecimal(address)
    block = rpc.call("eth_blockNumber")
    code, result, revocation = rpc.batch(
        [
            ("eth_getCode", (at, "latest")),
            ("eth_getStorageAt", (at, "0x0", "latest")),
            ("eth_getStorageAt", (at, "0x1", "latest")),
        ]
    )
    return AssetState(
        octets(code), octets(result).rjust(32, b"\0"), octets(revocation).rjust(32, b"\0"), int(block, 16)
    )


def selector(signature: str) -> bytes:
    """The first four bytes of a call to a function, by its Solidity signature."""
    return keccak256(signature.encode())[:4]


def _eth_call(to: bytes, data: bytes) -> tuple[str, tuple[object, ...]]:
    return "eth_call", ({"to": hexadecimal(to), "data": hexadecimal(data)}, "latest")


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
