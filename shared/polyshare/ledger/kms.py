"""A key that AWS KMS keeps (ECC_SECG_P256K1, SIGN_VERIFY): it signs there, and its secret never leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from polyshare.errors import Misconfigured, Unavailable
from polyshare.ledger.keys import address_of

# DER of a SubjectPublicKeyInfo (RFC 5480) of secp256k1, up to its point.
_BEFORE_POINT = bytes.fromhex("3056301006072a8648ce3d020106052b8104000a034200")
_SECONDS = 10


class KmsSigner:
    """A key by its id, alias or ARN; region, endpoint and credentials are boto3's to find, as the pod's role."""

    def __init__(self, key: str) -> None:
        import boto3
        from botocore.config import Config

        region = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else None
        config = Config(
            connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"mode": "standard", "max_attempts": 3}
        )
        self._key = key
        with _translated(key):
            self._client = boto3.Session().client("kms", region_name=region, config=config)
            found = self._client.get_public_key(KeyId=key)
        public = found["PublicKey"]
        if found["KeyUsage"] != "SIGN_VERIFY" or not public.startswith(_BEFORE_POINT):
            raise Misconfigured(
                f"the KMS key {key} is {found.get('KeySpec')} for {found['KeyUsage']}: the ledger needs a key of "
                "spec ECC_SECG_P256K1 for SIGN_VERIFY"
            )
        self.address = address_of(public[len(_BEFORE_POINT) :])

    def __repr__(self) -> str:
        return f"KmsSigner({self._key}, 0x{self.address.hex()})"

    def sign(self, digest: bytes) -> tuple[int, int]:
        with _translated(self._key):
            answer = self._client.sign(
                KeyId=self._key, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
            )
        return _numbers(answer["Signature"])


def _numbers(der: bytes) -> tuple[int, int]:
    """r and s of an Ecdsa-Sig-Value (RFC 3279): a sequence of two integers."""
    from coincurve.ecdsa import der_to_cdata, serialize_compact

    compact = serialize_compact(der_to_cdata(der))
    return int.from_bytes(compact[:32], "big"), int.from_bytes(compact[32:], "big")


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """boto3's failures that an operator can mend, by what to do."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    try:
        yield
    except (ConnectionError, HTTPClientError) as error:
        raise Unavailable(f"KMS, which keeps the ledger key {key}, does not answer: {error}") from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("ThrottlingException", "KMSInternalException", "DependencyTimeoutException"):
            raise Unavailable(f"KMS, which keeps the ledger key {key}, is not able to now: {code}") from error
        raise Misconfigured(
            f"KMS refuses the ledger key {key}: {error}. It must be there and enabled in that region, and this "
            "process's role be allowed kms:GetPublicKey and kms:Sign"
        ) from error
    except BotoCoreError as error:  # no region, no credentials
        raise Misconfigured(f"the ledger key {key} in KMS can't be reached: {error}") from error
