"""Transactions of type 0, signed for one chain (EIP-155), whoever keeps the key."""

from __future__ import annotations

from contextlib import suppress

from polyshare.errors import Misconfigured
from polyshare.ledger.keys import ORDER, Signer, address_of
from polyshare.metadata import keccak256
from polyshare.ports import SignedTransaction


def sign_transaction(
    signer: Signer, *, chain_id: int, nonce: int, gas: int, to: bytes | None, data: bytes
) -> SignedTransaction:
    """Sign a call of a contract, or with no `to` the creation of one, at a gas price of zero."""
    import rlp  # type: ignore[import-untyped]

    fields = [nonce, 0, gas, to or b"", 0, data]
    digest = keccak256(rlp.encode([*fields, chain_id, 0, 0]))
    r, s = signer.sign(digest)
    s = min(s, ORDER - s)  # of the two that are valid nodes take the lower (EIP-2)
    raw = rlp.encode([*fields, chain_id * 2 + 35 + _recovery_id(signer.address, digest, r, s), r, s])
    return SignedTransaction(keccak256(raw), raw, nonce, signer.address)


def nonce_of(raw: bytes) -> int:
    """The nonce of a signed transaction."""
    import rlp

    return int.from_bytes(rlp.decode(raw)[0], "big")


def _recovery_id(address: bytes, digest: bytes, r: int, s: int) -> int:
    """Which of the public keys that could have made a signature is the account's."""
    from coincurve import PublicKey

    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    for parity in (0, 1):
        with suppress(Exception):  # coincurve raises no narrower one where no key has this signature
            key = PublicKey.from_signature_and_message(signature + bytes([parity]), digest, hasher=None)
            if address_of(key.format(compressed=False)) == address:
                return parity
    raise Misconfigured(f"what signs for 0x{address.hex()} signed with another key: name the key of that account")
