"""Putting the registry and its definitions on a chain, once, by the owner's key.

The addresses follow from the owner's address and the nonce it starts at, so deploying again finds what is there and
goes on where it was cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from polyshare.errors import Conflict, Unavailable
from polyshare.ledger import artifacts
from polyshare.ledger.chain import is_writer, nonce_at, send_raw, wait_for_receipt
from polyshare.ledger.journal import Journal
from polyshare.ledger.keys import Key
from polyshare.ledger.read import check_contracts, selector
from polyshare.ledger.rpc import Rpc, hexadecimal
from polyshare.metadata import keccak256
from polyshare.ports import TrustRoot

_PATIENCE = 60.0  # seconds until a transaction is mined


def deploy(
    rpc: Rpc, owner: Key, writers: Sequence[bytes], *, first_nonce: int = 0, journal: Journal | None = None
) -> TrustRoot:
    """Deploy what is missing, allow the writers, check all the code, and return what a verifier pins.

    `first_nonce` is the owner's nonce at which the registry was, or is to be, deployed. Raises Conflict if the owner's
    account did something else there, Mismatch if the code is another, Unavailable if the node does not mine.
    """
    chain_id = int(rpc.call("eth_chainId"), 16)
    names = list(artifacts.DEFINITIONS.items())
    registry = created_address(owner.address, first_nonce)
    definitions = {int(kind): created_address(owner.address, first_nonce + 1 + i) for i, (kind, _) in enumerate(names)}
    steps: list[tuple[bytes | None, bytes]] = [(None, _creation(artifacts.REGISTRY, owner.address))]
    steps += [(None, _creation(name, registry)) for _, name in names]
    steps += [
        (registry, selector("defineKind(uint8,address)") + _word(kind.to_bytes(1, "big")) + _word(address))
        for kind, address in definitions.items()
    ]
    sender = _Sender(rpc, owner, chain_id, journal)
    for nonce, (to, data) in enumerate(steps, first_nonce):
        if nonce >= nonce_at(rpc, owner.address):
            sender.send(nonce, to, data)
    trust_root = TrustRoot(chain_id, registry, definitions)
    check_contracts(rpc, trust_root)
    for writer in writers:
        if not is_writer(rpc, registry, writer):
            allow = selector("allow(address,bool)") + _word(writer) + _word(b"\x01")
            sender.send(nonce_at(rpc, owner.address), registry, allow)
    return trust_root


def created_address(sender: bytes, nonce: int) -> bytes:
    """The address of a contract that an account creates at a nonce (CREATE, yellow paper §7)."""
    import rlp  # type: ignore[import-untyped]

    return keccak256(rlp.encode([sender, nonce]))[12:]


class _Sender:
    def __init__(self, rpc: Rpc, key: Key, chain_id: int, journal: Journal | None) -> None:
        self._rpc, self._key, self._chain_id, self._journal = rpc, key, chain_id, journal

    def send(self, nonce: int, to: bytes | None, data: bytes) -> None:
        transaction: dict[str, Any] = {
            "nonce": nonce,
            "gasPrice": 0,
            "gas": 200_000 if to else _creation_gas(data),
            "to": to or b"",
            "value": 0,
            "data": data,
            "chainId": self._chain_id,
        }
        signed = self._key.sign(transaction)
        with self._journal.noting(self._key.address, nonce, signed.raw) if self._journal else nullcontext():
            send_raw(self._rpc, signed.raw)
        receipt = wait_for_receipt(self._rpc, signed.hash, _PATIENCE)
        if receipt is None and nonce_at(self._rpc, self._key.address) <= nonce:
            raise Unavailable(
                f"the ledger node at {self._rpc.url} did not mine the deployment's transaction {nonce} in "
                f"{_PATIENCE:.0f} s: check that its validators run"
            )
        if receipt is None or int(receipt["status"], 16) != 1:
            raise Conflict(
                f"the deployment's transaction at nonce {nonce} of {hexadecimal(self._key.address)} did not succeed: "
                "the account was used for something else; deploy from a new key or at its next free nonce"
            )


def _creation(name: str, argument: bytes) -> bytes:
    """Creation code with its one constructor argument, an address."""
    return artifacts.load(name).creation + bytes(12) + argument


def _creation_gas(data: bytes) -> int:
    return 53_000 + (16 + 200 + 2) * len(data) + 200_000


def _word(data: bytes) -> bytes:
    return data.rjust(32, b"\0")
