"""Presigned S3 requests: AWS Signature Version 4 in the query string, with the standard library alone.

Botocore can do this too; its import costs as much as a small function's whole start, and a dataset of many files
needs many signatures. tests/contract/test_store_sign.py holds this to botocore's, byte for byte.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from urllib.parse import quote, urlsplit

from polyshare.store.keys import Key

_ALGORITHM = "AWS4-HMAC-SHA256"
_LONGEST = 7 * 86_400  # seconds, AWS's limit


class Signer:
    """Signs requests to one endpoint, path style, with the key there is at the time.

    Source of the rules: "Authenticating Requests: Using Query Parameters" of the Amazon S3 API reference.
    """

    def __init__(self, endpoint: str, region: str, key: Callable[[], Key]) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._host, self._base = urlsplit(self._endpoint).netloc, urlsplit(self._endpoint).path
        self._region, self._key = region, key
        self._signing_key = lru_cache(maxsize=2)(lambda secret, day: _signing_key(secret, day, region))

    def __repr__(self) -> str:
        return f"Signer({self._endpoint!r}, {self._region!r})"

    def url(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        seconds: int,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        now: float | None = None,
    ) -> str:
        """The URL that lets its holder make this request, with exactly these headers, for `seconds` from now."""
        by = self._key()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        signed = {"host": self._host, **{name.lower(): value.strip() for name, value in (headers or {}).items()}}
        names = ";".join(sorted(signed))
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        parameters = {
            **(query or {}),
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{by.access}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(max(1, min(seconds, _LONGEST))),
            "X-Amz-SignedHeaders": names,
            **({"X-Amz-Security-Token": by.token} if by.token else {}),
        }
        path = f"{self._base}/{quote(bucket, safe='-._~')}/{quote(key, safe='/-._~')}"
        pairs = sorted((quote(name, safe="-._~"), quote(value, safe="-._~")) for name, value in parameters.items())
        search = "&".join(f"{name}={value}" for name, value in pairs)
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = f"{method}\n{path}\n{search}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.new(self._signing_key(by.secret, stamp[:8]), text.encode(), hashlib.sha256).hexdigest()
        return f"{urlsplit(self._endpoint).scheme}://{self._host}{path}?{search}&X-Amz-Signature={signature}"


def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for step in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return key
