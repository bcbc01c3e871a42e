"""Who may do what on a registry: its owner, its writers, and handing it over (OpenZeppelin's Ownable2Step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polyshare.errors import Forbidden
from polyshare.ledger.chain import is_writer
from polyshare.ledger.deploy import Step, allow, check_owner, owner_of, read_address, word
from polyshare.ledger.read import selector
from polyshare.ledger.rpc import NodeRefused, Rpc, hexadecimal, octets
from polyshare.metadata import keccak256

_WRITER_ALLOWED = hexadecimal(keccak256(b"WriterAllowed(address,bool)"))


@dataclass(frozen=True, slots=True)
class Rights:
    """Accounts of 20 bytes. `writers` is None where the node does not look through all blocks for them."""

    owner: bytes
    pending_owner: bytes | None
    writers: tuple[bytes, ...] | None


def read_rights(rpc: Rpc, registry: bytes) -> Rights:
    """Owner, the one it is being transferred to, and writers, as of now."""
    pending = pending_owner_of(rpc, registry)
    return Rights(owner_of(rpc, registry), pending if any(pending) else None, _writers(rpc, registry))


def allowing(rpc: Rpc, registry: bytes, owner: bytes, writers: Sequence[bytes], allowed: bool) -> list[Step]:
    """Let accounts write, or not any more; no step for those of which it is so. Raises Forbidden."""
    steps = [allow(registry, w, allowed) for w in writers if is_writer(rpc, registry, w) != allowed]
    if steps:
        check_owner(rpc, registry, owner)
    return steps


def transferring(rpc: Rpc, registry: bytes, owner: bytes, to: bytes) -> list[Step]:
    """Offer the registry to another owner, who must accept it. Raises Forbidden."""
    if to in (owner_of(rpc, registry), pending_owner_of(rpc, registry)):
        return []
    check_owner(rpc, registry, owner)
    what = f"offer the registry to {hexadecimal(to)}, which owns it when it accepts"
    return [Step(what, registry, selector("transferOwnership(address)") + word(to))]


def accepting(rpc: Rpc, registry: bytes, by: bytes) -> list[Step]:
    """Take over a registry that was offered. Raises Forbidden."""
    if owner_of(rpc, registry) == by:
        return []
    offered = pending_owner_of(rpc, registry)
    if offered != by:
        to = hexadecimal(offered) if any(offered) else "nobody"
        raise Forbidden(
            f"the registry {hexadecimal(registry)} is offered to {to}, not to {hexadecimal(by)}: its owner must "
            "transfer it first"
        )
    return [Step(f"make {hexadecimal(by)} the registry's owner", registry, selector("acceptOwnership()"))]


def _writers(rpc: Rpc, registry: bytes) -> tuple[bytes, ...] | None:
    asked = {"address": hexadecimal(registry), "topics": [_WRITER_ALLOWED], "fromBlock": "0x0", "toBlock": "latest"}
    try:
        logs = rpc.call("eth_getLogs", asked)
    except NodeRefused:  # as Besu does beyond --rpc-max-logs-range
        return None
    named = {octets(log["topics"][1])[12:] for log in logs}
    return tuple(sorted(address for address in named if is_writer(rpc, registry, address)))


def pending_owner_of(rpc: Rpc, registry: bytes) -> bytes:
    return read_address(rpc, registry, "pendingOwner()")
