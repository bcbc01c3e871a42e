"""Gas that an entry takes at most, by the lengths of its bytes, so that batches can be cut before anything is signed.

Costs are London's (EIP-2929, EIP-3529); a test holds the formula against what real transactions used. An entry that
costs less than this, like one that is there already, only leaves gas unused.
"""

from __future__ import annotations

from collections.abc import Sequence

from polyshare.ports import Register, Result, Revocation

TRANSACTION = 21_000 + 2 * 22_100 + 15_000  # the intrinsic cost; head and count, once zero; the call and allow-list

_BYTE = 16  # of calldata, if it is not zero
_CREATE = 32_000 + 22_100 + 100  # CREATE2, the slot of the id, and touching the new account
_CODE = 200  # a byte
_MEMORY = 12  # a 32-byte word copied, hashed and expanded, twice
_REGISTER = 8_000  # the kind's slots, the event, checks and the head's link
_RESULT = 2_100 + 2_600 + 22_100 + 7_000  # id's slot, the asset's account, its result slot, event and proxying
_REVOCATION = _RESULT


def gas_of(entry: Register | Result | Revocation) -> int:
    """Gas for one entry beyond TRANSACTION."""
    if isinstance(entry, Register):
        length = len(entry.record)
        words = -(-(length + 200) // 32)
        # ABI: offset, kind, offset and length of the record, each a word with few bytes that are not zero
        calldata = _BYTE * (length + 32) + 4 * 128
        return _CREATE + _CODE * (length + 45) + calldata + _MEMORY * words + _REGISTER
    if isinstance(entry, Result):
        return _RESULT + _BYTE * 160
    return _REVOCATION + _BYTE * 64


def gas_of_all(entries: Sequence[Register] | Sequence[Result] | Sequence[Revocation]) -> int:
    """The gas limit of a transaction with these entries."""
    # A 64th is kept back at each call (EIP-150).
    return (TRANSACTION + sum(gas_of(entry) for entry in entries)) * 64 // 63
