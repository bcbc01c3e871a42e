"""Putting the registry and its definitions on a chain, by the owner's key: what is missing, and nothing twice.

What is to do follows from what is on the chain, so a deployment that was cut off anywhere is taken on by the next one.
Without a trust root that says where the registry is, it is looked for among the contracts that the key created.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from polyshare.assets import Kind
from polyshare.errors import Conflict, Forbidden, Mismatch, Unavailable
from polyshare.ledger import artifacts
from polyshare.ledger.chain import is_writer, nonce_at, send_raw, wait_for_receipt
from polyshare.ledger.journal import Journal
from polyshare.ledger.keys import Signer
from polyshare.ledger.read import check_contracts, selector
from polyshare.ledger.rpc import Rpc, hexadecimal, octets
from polyshare.ledger.signing import sign_transaction
from polyshare.metadata import keccak256
from polyshare.ports import TrustRoot

_MOST_SENT = 500  # transactions of a key, among which its registry is looked for
_PAGE = 100  # of them in one request


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction: what it does, and its call of a contract; `to` is None for the creation of one."""

    what: str
    to: bytes | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do, in order, and what a verifier pins once it is done."""

    trust_root: TrustRoot
    steps: tuple[Step, ...]


def plan(rpc: Rpc, owner: bytes, writers: Sequence[bytes], *, known: TrustRoot | None = None) -> Plan:
    """Find out what is missing for a registry that lets these writers write; `known` says where it is, if it is.

    Raises Mismatch where other code or another chain is in its place, Forbidden where what is missing is not the
    owner's to do, Conflict where its registry can't be looked for.
    """
    chain_id = int(rpc.call("eth_chainId"), 16)
    if known is not None and known.chain_id != chain_id:
        raise Mismatch(f"the node at {rpc.url} is on chain {chain_id}, the trust root on {known.chain_id}")
    created = _created_by(rpc, owner) if known is None else {}
    registry = known.registry if known else _find(artifacts.REGISTRY, created, b"")
    nonce = nonce_at(rpc, owner)
    steps: list[Step] = []
    if registry is None:
        registry = created_address(owner, nonce)
        steps.append(Step(f"create the registry {hexadecimal(registry)}", None, _creation(artifacts.REGISTRY, owner)))
        at: dict[Kind, bytes | None] = {}
    else:
        _check_code(rpc, artifacts.REGISTRY, registry, registry)
        at = {kind: _definition_of(rpc, registry, kind) for kind in artifacts.DEFINITIONS}
    definitions, defining = {}, []
    for kind, name in artifacts.DEFINITIONS.items():
        address = at.get(kind)
        if address is not None:
            _check_code(rpc, name, address, registry)
        else:
            address = _find(name, created, registry)
            if address is None:
                address = created_address(owner, nonce + len(steps))
                steps.append(
                    Step(f"create the definition {name} {hexadecimal(address)}", None, _creation(name, registry))
                )
            data = selector("defineKind(uint8,address)") + word(kind.to_bytes(1, "big")) + word(address)
            defining.append(Step(f"define kind {int(kind)} as {name}", registry, data))
        definitions[int(kind)] = address
    steps += defining
    steps += [allow(registry, w) for w in writers if not at or not is_writer(rpc, registry, w)]
    if at and steps:
        check_owner(rpc, registry, owner)
    return Plan(TrustRoot(chain_id, registry, definitions), tuple(steps))


def deploy(
    rpc: Rpc,
    owner: Signer,
    writers: Sequence[bytes],
    *,
    known: TrustRoot | None = None,
    journal: Journal | None = None,
    say: Callable[[str], None] = lambda what: None,
    patience: float = 60.0,
) -> TrustRoot:
    """Do what is missing, check all the code, and return what a verifier pins. Raises as `plan` and `send` do."""
    before = None
    while (left := plan(rpc, owner.address, writers, known=known)).steps:
        if before is not None and len(left.steps) >= before:
            raise Conflict(
                f"“{left.steps[0].what}” was sent and had no effect: another process uses the key "
                f"{hexadecimal(owner.address)}, or the chain went back; run it again when that is over"
            )
        before = len(left.steps)
        say(left.steps[0].what)
        send(rpc, owner, left.trust_root.chain_id, left.steps[0], journal=journal, patience=patience)
    check_contracts(rpc, left.trust_root)
    return left.trust_root


def send(
    rpc: Rpc, key: Signer, chain_id: int, step: Step, *, journal: Journal | None = None, patience: float = 60.0
) -> None:
    """Have a step mined. Raises Unavailable if it is not in so many seconds, Conflict if it fails."""
    nonce = nonce_at(rpc, key.address)
    gas = 200_000 if step.to else 53_000 + (16 + 200 + 2) * len(step.data) + 200_000
    signed = sign_transaction(key, chain_id=chain_id, nonce=nonce, gas=gas, to=step.to, data=step.data)
    with journal.noting(key.address, nonce, signed.raw) if journal else nullcontext():
        send_raw(rpc, signed.raw)
    end, receipt, used = time.monotonic() + patience, None, False
    while receipt is None and not used:
        if time.monotonic() > end:
            raise Unavailable(
                f"the ledger node at {rpc.url} did not mine “{step.what}” in {patience:.0f} s: check that its "
                "validators run, and run it again: what is done stays done"
            )
        used = nonce_at(rpc, key.address) > nonce
        receipt = wait_for_receipt(rpc, signed.hash, 0 if used else 0.5)
    # No receipt though the nonce is used: a run before this one had sent it, signed otherwise. What is there now tells.
    if receipt is not None and int(receipt["status"], 16) != 1:
        raise Conflict(f"“{step.what}” did not succeed: transaction {hexadecimal(signed.hash)} reverted")


def allow(registry: bytes, writer: bytes, allowed: bool = True) -> Step:
    data = selector("allow(address,bool)") + word(writer) + word(bytes([allowed]))
    return Step(f"{'allow' if allowed else 'forbid'} {hexadecimal(writer)} to write", registry, data)


def owner_of(rpc: Rpc, registry: bytes) -> bytes:
    return read_address(rpc, registry, "owner()")


def check_owner(rpc: Rpc, registry: bytes, address: bytes) -> None:
    """Raises Forbidden if the registry is another's."""
    owner = owner_of(rpc, registry)
    if owner != address:
        raise Forbidden(
            f"the registry {hexadecimal(registry)} is owned by {hexadecimal(owner)}, not by {hexadecimal(address)}: "
            "use the owner's key, or have the owner transfer it"
        )


def read_address(rpc: Rpc, contract: bytes, function: str, *arguments: bytes) -> bytes:
    """The address that a method of a contract answers with."""
    data = selector(function) + b"".join(word(argument) for argument in arguments)
    return octets(rpc.call("eth_call", {"to": hexadecimal(contract), "data": hexadecimal(data)}, "latest"))[12:]


def created_address(sender: bytes, nonce: int) -> bytes:
    """The address of a contract that an account creates at a nonce (CREATE, yellow paper §7)."""
    import rlp  # type: ignore[import-untyped]

    return keccak256(rlp.encode([sender, nonce]))[12:]


def word(data: bytes) -> bytes:
    """A value of the ABI that is filled up on its left, such as an address."""
    return data.rjust(32, b"\0")


def _created_by(rpc: Rpc, account: bytes) -> dict[bytes, bytes]:
    """The contracts that an account created itself: code by address."""
    sent = nonce_at(rpc, account)
    if sent > _MOST_SENT:
        raise Conflict(
            f"{hexadecimal(account)} has sent {sent} transactions, too many to look for a registry among them: name "
            "its trust root, or deploy with a new key"
        )
    addresses = [created_address(account, nonce) for nonce in range(sent)]
    codes: list[str] = []
    for start in range(0, sent, _PAGE):
        codes += rpc.batch([("eth_getCode", (hexadecimal(a), "latest")) for a in addresses[start : start + _PAGE]])
    return {address: octets(code) for address, code in zip(addresses, codes, strict=True)}


def _find(name: str, created: dict[bytes, bytes], registry: bytes) -> bytes | None:
    return next((a for a, code in created.items() if code == artifacts.expected_code(name, a, registry)), None)


def _check_code(rpc: Rpc, name: str, address: bytes, registry: bytes) -> None:
    code = octets(rpc.call("eth_getCode", hexadecimal(address), "latest"))
    if code != artifacts.expected_code(name, address, registry):
        found = "there is other code" if code else "there is no code"
        raise Mismatch(
            f"{found} at {hexadecimal(address)}, where {name} should be: check the trust root, and that this polyshare "
            "is of the release that deployed it"
        )


def _definition_of(rpc: Rpc, registry: bytes, kind: int) -> bytes | None:
    address = read_address(rpc, registry, "definitionOf(uint8)", bytes([kind]))
    return address if any(address) else None


def _creation(name: str, argument: bytes) -> bytes:
    """Creation code with its one constructor argument, an address."""
    return artifacts.load(name).creation + bytes(12) + argument
