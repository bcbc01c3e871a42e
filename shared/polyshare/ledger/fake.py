"""The ledger port in memory, with the rules of the contracts and of an account's nonces, for tests and simulation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from polyshare.assets import Kind
from polyshare.errors import Invalid
from polyshare.ledger.gas import gas_of_all
from polyshare.ledger.reasons import Reason
from polyshare.ledger.record import COMPLETED, FAILED, Record, asset_address, clone_code, result_digest
from polyshare.metadata import keccak256
from polyshare.ports import AssetState, Receipt, Register, Result, Revocation, SignedTransaction, TrustRoot

_ZERO = bytes(32)
_WRITER = keccak256(b"writer")[12:]
_WITH_RESULT = (Kind.MODEL, Kind.TRANSLATION)
_FIRST_BLOCK, _PERIOD = 1_700_000_000.0, 1.0  # seconds


class FakeLedger:
    """One account that writes, one registry. Deterministic: the same calls give the same addresses and hashes.

    Blocks are mined as transactions come, or, with `mining=False`, when `mine()` is called. A transaction with the id
    of a record in `poisoned` reverts, as one would that runs out of gas. `now` gives the blocks' time.
    """

    def __init__(
        self, *, mining: bool = True, gas_limit: int = 30_000_000, now: Callable[[], float] | None = None
    ) -> None:
        self.mining = mining
        self.poisoned: set[bytes] = set()
        self.count = 0
        self.head = _ZERO
        self._now = now
        self._gas_limit = gas_limit
        self._block = 0
        self._nonce = 0
        self._waiting: dict[int, bytes] = {}  # by nonce; the first one seen stays
        self._receipts: dict[bytes, Receipt] = {}
        self._contracts: dict[bytes, tuple[int, bytes]] = {}  # address by id, with the kind
        self._states: dict[bytes, tuple[bytes, bytes, bytes]] = {}  # code, result and revocation by address
        self._trust_root = TrustRoot(
            1337, keccak256(b"registry")[12:], {int(k): keccak256(b"definition %d" % k)[12:] for k in Kind}
        )

    def trust_root(self) -> TrustRoot:
        return self._trust_root

    def writer(self) -> bytes:
        return _WRITER

    def sign(
        self, entries: Sequence[Register] | Sequence[Result] | Sequence[Revocation], nonce: int
    ) -> SignedTransaction:
        raw = json.dumps({"nonce": nonce, "entries": [_to_json(entry) for entry in entries]}).encode()
        return SignedTransaction(keccak256(raw), raw, nonce, _WRITER)

    def send(self, raw: bytes) -> None:
        nonce = json.loads(raw)["nonce"]
        if nonce >= self._nonce:
            self._waiting.setdefault(nonce, raw)
        if self.mining:
            self.mine()

    def mine(self) -> None:
        """Put all that can go into blocks, a block a transaction."""
        while (raw := self._waiting.pop(self._nonce, None)) is not None:
            self._nonce += 1
            self._block += 1
            entries = [_from_json(document) for document in json.loads(raw)["entries"]]
            reverts = gas_of_all(entries) > self._gas_limit or any(e.id in self.poisoned for e in entries)  # type: ignore[arg-type]
            rejected = {} if reverts else {e.id: reason.text for e in entries if (reason := self._write(e))}
            time = self._now() if self._now else _FIRST_BLOCK + self._block * _PERIOD
            self._receipts[keccak256(raw)] = Receipt(not reverts, self._block, float(int(time)), rejected)

    def receipt(self, transaction: bytes, *, wait: float = 0) -> Receipt | None:
        return self._receipts.get(transaction)

    def next_nonce(self, sender: bytes | None = None) -> int:
        return self._nonce

    def capacity(self) -> int:
        return self._gas_limit * 6 // 10

    def asset(self, address: bytes) -> AssetState:
        return AssetState(*self._states.get(address, (b"", _ZERO, _ZERO)), self._block)

    def _write(self, entry: Register | Result | Revocation) -> Reason | None:
        match entry:
            case Register():
                return self._register(entry)
            case Result():
                return self._record(entry)
            case Revocation():
                return self._revoke(entry)

    def _register(self, entry: Register) -> Reason | None:
        flaw = _flaw_of(entry)
        if flaw is not None:
            return flaw
        address = asset_address(self._trust_root, entry.kind, entry.record)
        if entry.id in self._contracts:
            return None if self._contracts[entry.id] == (entry.kind, address) else Reason.ID_TAKEN
        code = clone_code(self._trust_root.definitions[entry.kind], entry.record)
        self._contracts[entry.id] = entry.kind, address
        self._states[address] = code, _ZERO, _ZERO
        self.head = keccak256(self.head + bytes(12) + address)
        self.count += 1
        return None

    def _record(self, entry: Result) -> Reason | None:
        kind, address = self._contracts.get(entry.id, (0, b""))
        if not address:
            return Reason.UNKNOWN_ID
        if kind not in _WITH_RESULT:
            return Reason.NO_RESULT_FOR_KIND
        if entry.outcome not in (COMPLETED, FAILED):
            return Reason.BAD_OUTCOME
        code, held, revocation = self._states[address]
        digest = result_digest(entry.outcome, entry.commitment, entry.metadata_root, entry.provenance)
        if held not in (_ZERO, digest):
            return Reason.RESULT_DIFFERS
        self._states[address] = code, digest, revocation
        return None

    def _revoke(self, entry: Revocation) -> Reason | None:
        _, address = self._contracts.get(entry.id, (0, b""))
        if not address:
            return Reason.UNKNOWN_ID
        if entry.digest == _ZERO:
            return Reason.ZERO_DIGEST
        code, result, held = self._states[address]
        if held not in (_ZERO, entry.digest):
            return Reason.REVOCATION_DIFFERS
        self._states[address] = code, result, entry.digest
        return None


def _flaw_of(entry: Register) -> Reason | None:
    record = entry.record
    if entry.kind not in list(Kind):
        return Reason.UNKNOWN_KIND
    if len(record) < 82:
        return Reason.BAD_LENGTH
    if record[0] != 1:
        return Reason.BAD_SCHEMA
    if not any(record[1:17]):
        return Reason.ZERO_ID
    parents = record[81] & 0x7F
    if parents > 64 or parents < (entry.kind in _WITH_RESULT):
        return Reason.BAD_LINKS
    try:
        Record.decode(entry.kind, record)
    except Invalid:
        return Reason.BAD_LENGTH
    return None


def _to_json(entry: Register | Result | Revocation) -> dict[str, Any]:
    return {
        "type": type(entry).__name__,
        **{
            name: value.hex() if isinstance(value := getattr(entry, name), bytes) else value
            for name in entry.__dataclass_fields__
        },
    }


def _from_json(document: dict[str, Any]) -> Register | Result | Revocation:
    kind = {"Register": Register, "Result": Result, "Revocation": Revocation}[document.pop("type")]
    return kind(**{k: bytes.fromhex(v) if isinstance(v, str) else v for k, v in document.items()})  # type: ignore[no-any-return]
