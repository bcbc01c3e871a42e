"""The writer's side of a real chain: web3 for the contracts' ABI and signing, JSON-RPC with time limits to the node.

Transactions are of type 0 with a gas price of zero: QBFT networks of GoQuorum and Besu take no other by default, and
the embedded chain is run the same. On QBFT, and on the embedded chain, a mined block is final.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from polyshare.errors import Misconfigured
from polyshare.ledger.gas import gas_of_all
from polyshare.ledger.journal import Journal
from polyshare.ledger.keys import Key, load_key
from polyshare.ledger.node import NodeFolder
from polyshare.ledger.read import asset_state, selector
from polyshare.ledger.reasons import Reason
from polyshare.ledger.record import trust_root
from polyshare.ledger.recursion import limit_kept
from polyshare.ledger.rpc import NodeRefused, Rpc, hexadecimal, octets
from polyshare.metadata import keccak256
from polyshare.ports import AssetState, Receipt, Register, Result, Revocation, SignedTransaction, TrustRoot
from polyshare.settings import Settings

_REJECTED = hexadecimal(keccak256(b"Rejected(bytes16,uint8)"))
# How nodes (geth and GoQuorum, Besu, anvil) say that they have the transaction, or one of the same nonce.
_KNOWN = ("already known", "known transaction", "already imported", "nonce too low", "underpriced")
_FIRST_POLL, _LONGEST_POLL = 0.005, 0.25  # seconds


class ChainLedger:
    """A registry on a chain, and the key of one of its writers; without a key it only reads.

    With a journal, every transaction is on disk before it is sent (for the embedded chain, whose memory it is).
    """

    def __init__(
        self, rpc: Rpc, trust_root: TrustRoot, key: Key | None = None, *, journal: Journal | None = None
    ) -> None:
        self._rpc, self._trust_root, self._key, self._journal = rpc, trust_root, key, journal
        self._codec: Any = None
        self._chain_checked = False

    @classmethod
    def from_settings(cls, settings: Settings) -> ChainLedger:
        """The ledger that settings name, with a key where they name its file. Raises Misconfigured."""
        if not settings.ledger_rpc:
            raise Misconfigured("POLYSHARE_LEDGER_RPC is missing: set it to the URL of a node of the ledger's chain")
        return cls(
            Rpc(settings.ledger_rpc),
            trust_root(settings.trust_root),
            load_key(settings.ledger_key_file) if settings.ledger_key_file else None,
            journal=NodeFolder.of(settings.data).journal if settings.data else None,
        )

    def trust_root(self) -> TrustRoot:
        return self._trust_root

    def sign(
        self, entries: Sequence[Register] | Sequence[Result] | Sequence[Revocation], nonce: int
    ) -> SignedTransaction:
        """Raises Misconfigured where the registry would refuse the key or the node is on another chain."""
        key = self._writer()
        self._check_allowed(key)
        return key.sign(
            {
                "nonce": nonce,
                "gasPrice": 0,
                "gas": gas_of_all(entries),
                "to": self._trust_root.registry,
                "value": 0,
                "data": self._encode(entries),
                "chainId": self._trust_root.chain_id,
            }
        )

    def send(self, raw: bytes) -> None:
        key, nonce = self._writer(), nonce_of(raw)
        with self._journal.noting(key.address, nonce, raw) if self._journal else nullcontext():
            send_raw(self._rpc, raw)

    def receipt(self, transaction: bytes, *, wait: float = 0) -> Receipt | None:
        found = wait_for_receipt(self._rpc, transaction, wait)
        if found is None:
            return None
        block = self._rpc.call("eth_getBlockByNumber", found["blockNumber"], False)
        return Receipt(
            succeeded=int(found["status"], 16) == 1,
            block=int(found["blockNumber"], 16),
            time=float(int(block["timestamp"], 16)),
            rejected=self._rejected(found["logs"]),
        )

    def next_nonce(self) -> int:
        return nonce_at(self._rpc, self._writer().address)

    def capacity(self) -> int:
        block = self._rpc.call("eth_getBlockByNumber", "latest", False)
        return int(block["gasLimit"], 16) * 6 // 10

    def asset(self, address: bytes) -> AssetState:
        return asset_state(self._rpc, address)

    def _writer(self) -> Key:
        if self._key is None:
            raise Misconfigured("this process has no ledger key, so it can't write: set POLYSHARE_LEDGER_KEY_FILE")
        return self._key

    def _check_allowed(self, key: Key) -> None:
        if not self._chain_checked:
            chain = int(self._rpc.call("eth_chainId"), 16)
            if chain != self._trust_root.chain_id:
                raise Misconfigured(
                    f"the node at {self._rpc.url} is on chain {chain}, the trust root on {self._trust_root.chain_id}: "
                    "set POLYSHARE_LEDGER_RPC to a node of that chain"
                )
            self._chain_checked = True
        if not is_writer(self._rpc, self._trust_root.registry, key.address):
            raise Misconfigured(
                f"the registry {hexadecimal(self._trust_root.registry)} does not let {hexadecimal(key.address)} write: "
                "its owner must allow this writer"
            )

    def _encode(self, entries: Sequence[Register] | Sequence[Result] | Sequence[Revocation]) -> bytes:
        if self._codec is None:
            with limit_kept():
                from web3 import Web3

            self._codec = Web3().codec
        return call_data(self._codec, entries)

    def _rejected(self, logs: Sequence[Mapping[str, Any]]) -> dict[bytes, str]:
        found = {}
        for log in logs:
            if octets(log["address"]) == self._trust_root.registry and log["topics"][0] == _REJECTED:
                number = int(log["data"], 16)
                known = number in Reason.__members__.values()
                found[octets(log["topics"][1])[:16]] = Reason(number).text if known else f"reason {number}"
        return found


def call_data(codec: Any, entries: Sequence[Register] | Sequence[Result] | Sequence[Revocation]) -> bytes:
    """The call of the registry that writes entries of one type. web3's `encode_abi` would format each value first,
    which takes longer than all the rest: its codec alone is enough for values that are bytes and numbers already."""
    function, types = "", ""
    rows: list[tuple[bytes | int, ...]] = []
    for entry in entries:
        match entry:
            case Register():
                function, types = "registerMany", "(uint8,bytes)[]"
                rows.append((entry.kind, entry.record))
            case Result():
                function, types = "recordMany", "(bytes16,uint8,bytes32,bytes32,bytes32)[]"
                rows.append((entry.id, entry.outcome, entry.commitment, entry.metadata_root, entry.provenance))
            case Revocation():
                function, types = "revokeMany", "(bytes16,bytes32)[]"
                rows.append((entry.id, entry.digest))
    return selector(f"{function}({types})") + bytes(codec.encode([types], [rows]))


def nonce_of(raw: bytes) -> int:
    """The nonce of a signed transaction of type 0."""
    import rlp  # type: ignore[import-untyped]

    return int.from_bytes(rlp.decode(raw)[0], "big")


def send_raw(rpc: Rpc, raw: bytes) -> None:
    """Hand signed bytes to a node. That it has them already, or another transaction of that nonce, is no error:
    the receipt, or its absence, tells."""
    try:
        rpc.call("eth_sendRawTransaction", hexadecimal(raw))
    except NodeRefused as error:
        if not any(words in error.message.lower() for words in _KNOWN):
            raise


def wait_for_receipt(rpc: Rpc, transaction: bytes, seconds: float) -> dict[str, Any] | None:
    """The node's receipt of a mined transaction, or None after so many seconds."""
    deadline, pause = time.monotonic() + seconds, _FIRST_POLL
    while True:
        found: dict[str, Any] | None = rpc.call("eth_getTransactionReceipt", hexadecimal(transaction))
        left = deadline - time.monotonic()
        if found is not None or left <= 0:
            return found
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_POLL)


def nonce_at(rpc: Rpc, address: bytes) -> int:
    """How many transactions of an account are mined."""
    return int(rpc.call("eth_getTransactionCount", hexadecimal(address), "latest"), 16)


def is_writer(rpc: Rpc, registry: bytes, address: bytes) -> bool:
    """Whether the registry lets an account write."""
    data = selector("isWriter(address)") + bytes(12) + address
    answer = rpc.call("eth_call", {"to": hexadecimal(registry), "data": hexadecimal(data)}, "latest")
    return int(octets(answer).hex() or "0", 16) == 1
