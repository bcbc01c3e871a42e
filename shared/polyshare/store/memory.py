"""A store in memory that behaves as S3 does, presigned requests included: for tests and simulation."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from polyshare.errors import Mismatch, NotFound
from polyshare.ports import Bucket, Clock, Head, Listed, Put, Signed, SystemClock

_CHECKSUM = "x-amz-checksum-sha256"
_MOST_PARTS = 10_000


@dataclass(slots=True)
class _Object:
    data: bytes = field(repr=False)
    head: Head
    modified: float


@dataclass(slots=True)
class _Upload:
    bucket: Bucket
    key: str
    parts: dict[int, bytes] = field(default_factory=dict, repr=False)


class MemoryStore:
    """Objects in dictionaries. `request` and `read` do what an HTTP client does with a presigned request."""

    def __init__(self, clock: Clock | None = None, *, smallest_part: int = 5 * 1024 * 1024) -> None:
        self._clock = clock or SystemClock()
        self._smallest_part = smallest_part  # bytes, of every part but the last (S3's rule)
        self._objects: dict[tuple[Bucket, str], _Object] = {}
        self._uploads: dict[str, _Upload] = {}
        self._started = 0
        self._secret = os.urandom(16)

    def put(self, bucket: Bucket, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        if if_absent and (bucket, key) in self._objects:
            return False
        self._place(bucket, key, data, hashlib.md5(data, usedforsecurity=False).hexdigest(), _encoded([data]))
        return True

    def put_all(self, puts: Sequence[Put]) -> None:
        for one in puts:
            self.put(one.bucket, one.key, one.data, if_absent=one.if_absent)

    def get(self, bucket: Bucket, key: str) -> bytes:
        return self._find(bucket, key).data

    def get_range(self, bucket: Bucket, key: str, start: int, length: int) -> bytes:
        return self._find(bucket, key).data[start : start + length]

    def head(self, bucket: Bucket, key: str) -> Head | None:
        found = self._objects.get((bucket, key))
        return None if found is None else found.head

    def list(self, bucket: Bucket, prefix: str = "", *, after: str = "") -> Iterator[Listed]:
        keys = [k for b, k in self._objects if b is bucket and k.startswith(prefix) and k.encode() > after.encode()]
        for key in sorted(keys, key=str.encode):
            found = self._objects.get((bucket, key))
            if found is not None:
                yield Listed(key, found.head.size, found.head.etag, found.modified)

    def delete(self, bucket: Bucket, keys: Iterable[str]) -> None:
        for key in keys:
            self._objects.pop((bucket, key), None)

    def sign_get(self, bucket: Bucket, key: str, *, seconds: int, if_match: str | None = None) -> Signed:
        return self._sign("GET", bucket, key, seconds, {"if-match": f'"{if_match}"'} if if_match else {})

    def sign_put(self, bucket: Bucket, key: str, *, sha256: bytes, seconds: int) -> Signed:
        return self._sign("PUT", bucket, key, seconds, {_CHECKSUM: b64encode(sha256).decode()})

    def start_multipart(self, bucket: Bucket, key: str) -> str:
        self._started += 1
        upload = f"upload-{self._started}"
        self._uploads[upload] = _Upload(bucket, key)
        return upload

    def sign_part(self, bucket: Bucket, key: str, upload: str, part: int, *, sha256: bytes, seconds: int) -> Signed:
        headers = {_CHECKSUM: b64encode(sha256).decode()}
        return self._sign("PUT", bucket, key, seconds, headers, uploadId=upload, partNumber=str(part))

    def put_part(self, bucket: Bucket, key: str, upload: str, part: int, data: bytes) -> None:
        self._upload(bucket, key, upload).parts[part] = data

    def list_parts(self, bucket: Bucket, key: str, upload: str) -> dict[int, int]:
        return {number: len(data) for number, data in sorted(self._upload(bucket, key, upload).parts.items())}

    def complete_multipart(self, bucket: Bucket, key: str, upload: str, parts: Sequence[bytes]) -> None:
        if upload not in self._uploads:
            checksum = _composite(parts)
            if (found := self._objects.get((bucket, key))) is not None and found.head.sha256 == checksum:
                return  # completed before, by a call whose answer was lost
        there = self._upload(bucket, key, upload).parts
        for number, digest in enumerate(parts, 1):
            if number not in there:
                raise Mismatch(f"part {number} of {key} was not uploaded")
            if hashlib.sha256(there[number]).digest() != digest:
                raise Mismatch(f"part {number} of {key} has other bytes than its digest says")
            if number < len(parts) and len(there[number]) < self._smallest_part:
                raise Mismatch(f"part {number} of {key} is smaller than {self._smallest_part} bytes")
        chosen = [there[number] for number in range(1, len(parts) + 1)]
        md5 = b"".join(hashlib.md5(data, usedforsecurity=False).digest() for data in chosen)
        etag = f"{hashlib.md5(md5, usedforsecurity=False).hexdigest()}-{len(chosen)}"
        self._place(bucket, key, b"".join(chosen), etag, _composite(parts))
        del self._uploads[upload]

    def abort_multipart(self, bucket: Bucket, key: str, upload: str) -> None:
        self._uploads.pop(upload, None)

    def request(self, method: str, signed: Signed, body: bytes = b"") -> int:
        """Make a presigned request with its headers; the HTTP status S3 answers with."""
        return self.make(method, signed, body)[0]

    def read(self, signed: Signed) -> tuple[int, bytes]:
        """Make a presigned GET; the status and, at 200, the bytes."""
        return self.make("GET", signed, b"")

    def make(self, method: str, signed: Signed, body: bytes = b"") -> tuple[int, bytes]:
        parts = urlsplit(signed.url)
        query = dict(parse_qsl(parts.query))
        given = query.pop("signature", "")
        if not hmac.compare_digest(given, self._signature(method, signed.url.partition("?")[0], query, signed.headers)):
            return 403, b""
        if float(query["expires"]) < self._clock.now():
            return 403, b""
        bucket, key = Bucket(parts.netloc), unquote(parts.path[1:])
        if method == "GET":
            found = self._objects.get((bucket, key))
            if found is None:
                return 404, b""
            wanted = signed.headers.get("if-match")
            return (200, found.data) if wanted is None or wanted.strip('"') == found.head.etag else (412, b"")
        digest = hashlib.sha256(body).digest()
        if digest != b64decode(signed.headers[_CHECKSUM]):
            return 400, b""
        if "uploadId" not in query:
            self.put(bucket, key, body)
            return 200, b""
        upload, number = self._uploads.get(query["uploadId"]), int(query["partNumber"])
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            return 404, b""
        if not 1 <= number <= _MOST_PARTS:
            return 400, b""
        upload.parts[number] = body
        return 200, b""

    def _sign(
        self, method: str, bucket: Bucket, key: str, seconds: int, headers: dict[str, str], **query: str
    ) -> Signed:
        url = f"memory://{bucket}/{quote(key)}"
        query["expires"] = repr(self._clock.now() + seconds)
        query["signature"] = self._signature(method, url, query, headers)
        return Signed(f"{url}?{urlencode(query)}", headers)

    def _signature(self, method: str, url: str, query: dict[str, str], headers: Mapping[str, str]) -> str:
        text = repr((method, url, sorted(query.items()), sorted(headers.items())))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def _place(self, bucket: Bucket, key: str, data: bytes, etag: str, sha256: str) -> None:
        self._objects[bucket, key] = _Object(data, Head(len(data), etag, sha256), self._clock.now())

    def _find(self, bucket: Bucket, key: str) -> _Object:
        try:
            return self._objects[bucket, key]
        except KeyError:
            raise NotFound(f"there is no object {key} in the {bucket} bucket") from None

    def _upload(self, bucket: Bucket, key: str, upload: str) -> _Upload:
        found = self._uploads.get(upload)
        if found is None or (found.bucket, found.key) != (bucket, key):
            raise NotFound(f"the upload of {key} is over: it was completed or given up")
        return found


def _encoded(data: Sequence[bytes]) -> str:
    return b64encode(hashlib.sha256(b"".join(data)).digest()).decode()


def _composite(parts: Sequence[bytes]) -> str:
    return f"{_encoded(parts)}-{len(parts)}"
