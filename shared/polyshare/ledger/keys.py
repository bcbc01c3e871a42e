"""Keys that sign for the ledger. One lives in a file of its own, or in a KMS; only its address is ever shown."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Protocol

from polyshare.errors import Misconfigured
from polyshare.metadata import keccak256

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1


class Signer(Protocol):
    """Whoever keeps a secp256k1 key and signs with it."""

    @property
    def address(self) -> bytes: ...

    def sign(self, digest: bytes) -> tuple[int, int]:
        """r and s of an ECDSA signature of 32 bytes."""
        ...


class Key:
    """A secp256k1 key, by its secret of 32 bytes."""

    __slots__ = ("_secret", "address")

    def __init__(self, secret: bytes) -> None:
        from coincurve import PrivateKey

        self._secret = PrivateKey(secret)
        self.address = address_of(self._secret.public_key.format(compressed=False))

    def __repr__(self) -> str:
        return f"Key(0x{self.address.hex()})"

    def sign(self, digest: bytes) -> tuple[int, int]:
        signature = self._secret.sign_recoverable(digest, hasher=None)
        return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")


def address_of(public_key: bytes) -> bytes:
    """The account of a public key, which is an uncompressed point: 0x04 and two numbers of 32 bytes."""
    return keccak256(public_key[1:])[12:]


def find_signer(key_file: str | None, kms_key: str | None) -> Signer | None:
    """The key in a file, or the one that AWS KMS keeps by that id or ARN. Raises Misconfigured where both are named."""
    if key_file and kms_key:
        raise Misconfigured(f"two ledger keys are named, the file {key_file} and KMS's {kms_key}: name one")
    if kms_key:
        from polyshare.ledger.kms import KmsSigner

        return KmsSigner(kms_key)
    return load_key(key_file) if key_file else None


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
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < ORDER:
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
        secret = (secrets.randbelow(ORDER - 1) + 1).to_bytes(32, "big")
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
