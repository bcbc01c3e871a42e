"""The writer's side of a real chain: web3 for the contracts' ABI and signing, JSON-RPC with time limits to the node.

Transactions are of type 0 with a gas price of zero: QBFT networks of GoQuorum and Besu take no other by default, and
the embedded chain is run the same. On QBFT, and on the embedded chain, a mined block is final.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from polyshare.errors import Misconfigured, Mismatch
from polyshare.ledger.gas import gas_of_all
from polyshare.ledger.journal import Journal
from polyshare.ledger.keys import Signer, find_signer
from polyshare.ledger.node import NodeFolder
from polyshare.ledger.read import asset_state, check_contracts, selector
from polyshare.ledger.reasons import Reason
from polyshare.ledger.record import trust_root
from polyshare.ledger.recursion import limit_kept
from polyshare.ledger.rpc import NodeRefused, Nodes, Rpc, hexadecimal, octets
from polyshare.ledger.signing import nonce_of, sign_transaction
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
        self, rpc: Rpc, trust_root: TrustRoot, key: Signer | None = None, *, journal: Journal | None = None
    ) -> None:
        self._rpc, self._trust_root, self._key, self._journal = rpc, trust_root, key, journal
        self._codec: Any = None

    @classmethod
    def from_settings(cls, settings: Settings) -> ChainLedger:
        """The ledger that settings name, with a key where they name one. Raises Misconfigured."""
        if not settings.ledger_rpc:
            raise Misconfigured("POLYSHARE_LEDGER_RPC is missing: set it to the URL of a node of the ledger's chain")
        root = trust_root(settings.trust_root)

        def admit(node: Rpc) -> None:
            try:
                check_contracts(node, root)
            except Mismatch as error:
                told = "set POLYSHARE_LEDGER_RPC to a node of the ledger, and POLYSHARE_TRUST_ROOT to what was deployed"
                raise Misconfigured(f"{error.message}; {told}") from error

        return cls(
            Nodes(settings.ledger_rpc, admit=admit),
            root,
            find_signer(settings.ledger_key_file, settings.ledger_kms_key),
            journal=NodeFolder.of(settings.data).journal if settings.data else None,
        )

    def trust_root(self) -> TrustRoot:
        return self._trust_root

    def writer(self) -> bytes:
        return self._writer().address

    def sign(
        self, entries: Sequence[Register] | Sequence[Result] | Sequence[Revocation], nonce: int
    ) -> SignedTransaction:
        """Raises Misconfigured where the registry would refuse the key."""
        key, registry = self._writer(), self._trust_root.registry
        if not is_writer(self._rpc, registry, key.address):
            raise Misconfigured(
                f"the registry {hexadecimal(registry)} does not let {hexadecimal(key.address)} write: its owner must "
                f"allow this writer (polyshare ledger allow {hexadecimal(key.address)})"
            )
        return sign_transaction(
            key,
            chain_id=self._trust_root.chain_id,
            nonce=nonce,
            gas=gas_of_all(entries),
            to=registry,
            data=self._encode(entries),
        )

    def send(self, raw: bytes) -> None:
        noting = self._journal.noting(self.writer(), nonce_of(raw), raw) if self._journal else nullcontext()
        with noting:
            send_raw(self._rpc, raw)

    def receipt(self, transaction: bytes, *, wait: float = 0) -> Receipt | None:
        found = wait_for_receipt(self._rpc, transaction, wait)
        if found is None:
            return None
        succeeded = int(found["status"], 16) == 1
        if not succeeded and not self._was_writer(octets(found["from"]), found["blockNumber"]):
            return None
        block = self._rpc.call("eth_getBlockByNumber", found["blockNumber"], False)
        return Receipt(
            succeeded=succeeded,
            block=int(found["blockNumber"], 16),
            time=float(int(block["timestamp"], 16)),
            rejected=self._rejected(found["logs"]),
        )

    def next_nonce(self, sender: bytes | None = None) -> int:
        return nonce_at(self._rpc, sender or self._writer().address)

    def capacity(self) -> int:
        block = self._rpc.call("eth_getBlockByNumber", "latest", False)
        return int(block["gasLimit"], 16) * 6 // 10

    def asset(self, address: bytes) -> AssetState:
        return asset_state(self._rpc, address)

    def _writer(self) -> Signer:
        if self._key is None:
            raise Misconfigured(
                "this process has no ledger key, so it can't write: set POLYSHARE_LEDGER_KEY_FILE, or "
                "POLYSHARE_LEDGER_KMS_KEY"
            )
        return self._key

    def _was_writer(self, address: bytes, block: str) -> bool:
        """Whether the registry let an account write then; now, where the node does not keep the state of that block."""
        try:
            return is_writer(self._rpc, self._trust_root.registry, address, block)
        except NodeRefused:
            return is_writer(self._rpc, self._trust_root.registry, address)

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


def is_writer(rpc: Rpc, registry: bytes, address: bytes, block: str = "latest") -> bool:
    """Whether the registry lets an account write."""
    data = selector("isWriter(address)") + bytes(12) + address
    answer = rpc.call("eth_call", {"to": hexadecimal(registry), "data": hexadecimal(data)}, block)
    return int(octets(answer).hex() or "0", 16) == 1
