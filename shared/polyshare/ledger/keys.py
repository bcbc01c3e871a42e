"""Keys that sign for the ledger. Each lives in a file of its own; only its address is ever shown."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from polyshare.errors import Misconfigured
from polyshare.ledger.recursion import limit_kept
from polyshare.metadata import keccak256
from polyshare.ports import SignedTransaction

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1


class Key:
    """A secp256k1 key, by its secret of 32 bytes."""

    __slots__ = ("_account", "address")

    def __init__(self, secret: bytes) -> None:
        with limit_kept():
            from eth_account import Account

        self._account = Account.from_key(secret)
        self.address: bytes = bytes.fromhex(self._account.address[2:])

    def __repr__(self) -> str:
        return f"Key(0x{self.address.hex()})"

    def sign(self, transaction: dict[str, Any]) -> SignedTransaction:
        """Sign a transaction with its fields named as in JSON-RPC; type 0 with the chain's id (EIP-155)."""
        signed = self._account.sign_transaction(transaction)
        raw = bytes(signed.raw_transaction)
        return SignedTransaction(keccak256(raw), raw, transaction["nonce"])


def load_key(path: str | Path) -> Key:
    """Read a key file (64 hexadecimal digits) that only its owner may read; raises Misconfigured.

    One that is not ours is a secret that the platform mounted, readable here because it is readable for all: what
    protects it is that no other container has it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(1024).strip()
    except OSError as error:
        raise Misconfigured(f"the ledger key {path} can't be read: {error.strerror}") from error
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        raise Misconfigured(f"the ledger key {path} may be read by others: chmod 600 {path}")
    try:
        secret = bytes.fromhex(text.decode("ascii").removeprefix("0x"))
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < _ORDER:
            raise ValueError
    except ValueError:
        raise Misconfigured(f"the ledger key {path} does not hold a key: 64 hexadecimal digits") from None
    return Key(secret)


def make_key(path: str | Path) -> Key:
    """The key in the file, made there first if there is none."""
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        secret = (secrets.randbelow(_ORDER - 1) + 1).to_bytes(32, "big")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # whoever comes second takes the first one's
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        _sync_folder(path.parent)
    return load_key(path)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
