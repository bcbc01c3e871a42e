"""The object store on anything that speaks S3, by boto3, imported when it is first needed.

Signing needs no client, and neither do the two calls of every registration, which cost a quarter so.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from polyshare.errors import Conflict, Misconfigured, Mismatch, NotFound, PolyshareError, Unavailable
from polyshare.ports import Bucket, Head, Listed, Put, Signed
from polyshare.store.keys import Given, Role
from polyshare.store.sign import Signer
from polyshare.wire import Connections, Reply

_CHECKSUM = "x-amz-checksum-sha256"
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 5, 60, 3
_SIGNED_SECONDS = 300  # that a request of our own may be under way
_DELETE_AT_ONCE = 1000  # S3's limit
_MISSING = {"NoSuchKey", "NoSuchUpload", "404", "NotFound"}
_BAD_PARTS = {"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "BadDigest", "InvalidRequest"}
_REFUSED = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "403",
    "Forbidden",
}
_THIS_MACHINE = {"127.0.0.1", "localhost", "::1"}  # never reached through a proxy


class S3Store:
    """Objects of three buckets of one S3 endpoint, by a key or this process's role. Safe to share between threads."""

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        keys: Given | Role,
        buckets: Mapping[Bucket, str],
        public_endpoint: str | None = None,
    ) -> None:
        self._endpoint, self._region, self._buckets = endpoint, region, dict(buckets)
        self._keys = keys
        self._signer = Signer(public_endpoint or endpoint, region, keys)
        self._own_signer = Signer(endpoint, region, keys)
        self._connections = Connections(idle=_READ_SECONDS, tls=_tls)
        self._made: Any = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"S3Store({self._endpoint!r})"

    def create_buckets(self) -> None:
        """Make the buckets that are not there yet."""
        there = {bucket["Name"] for bucket in self._call("list_buckets")["Buckets"]}
        for name in self._buckets.values():
            if name not in there:
                self._call("create_bucket", Bucket=name)

    def put(self, bucket: Bucket, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        return self._put(Put(bucket, key, data, if_absent=if_absent))

    def put_all(self, puts: Sequence[Put]) -> None:
        """Each is sent before the first is answered, on a connection of its own: at once, without threads."""
        if puts:
            self._put(puts[0], meanwhile=lambda: self.put_all(puts[1:]))

    def _put(self, put: Put, meanwhile: Callable[[], None] = lambda: None) -> bool:
        headers = {_CHECKSUM: b64encode(hashlib.sha256(put.data).digest()).decode()}
        if put.if_absent:
            headers["if-none-match"] = "*"
        return (
            self._request("PUT", put.bucket, put.key, headers, put.data, expected=412, meanwhile=meanwhile) is not None
        )

    def get(self, bucket: Bucket, key: str) -> bytes:
        found = self._try("get_object", {"NoSuchKey"}, Bucket=self._buckets[bucket], Key=key)
        if found is None:
            raise NotFound(f"there is no object {key} in the {bucket} bucket")
        with self._translating():
            data: bytes = found["Body"].read()
            return data

    def get_range(self, bucket: Bucket, key: str, start: int, length: int) -> bytes:
        request = {"Bucket": self._buckets[bucket], "Key": key, "Range": f"bytes={start}-{start + length - 1}"}
        found = self._try("get_object", {"NoSuchKey"}, **request)
        if found is None:
            raise NotFound(f"there is no object {key} in the {bucket} bucket")
        with self._translating():
            data: bytes = found["Body"].read()
            return data

    def head(self, bucket: Bucket, key: str) -> Head | None:
        reply = self._request("HEAD", bucket, key, {"x-amz-checksum-mode": "ENABLED"}, expected=404)
        if reply is None:
            return None
        found = reply.headers
        return Head(int(found["content-length"]), found["etag"].strip('"'), found[_CHECKSUM])

    def list(self, bucket: Bucket, prefix: str = "", *, after: str = "") -> Iterator[Listed]:
        """Objects in the store's order: on S3 that of UTF-8 bytes, on SeaweedFS so within a folder (`a/b`, then `a-b`).

        Where SeaweedFS goes on after a key, it leaves out what is below that key as a folder: asked for by itself.
        """
        while True:
            request = {"Bucket": self._buckets[bucket], "Prefix": prefix, **({"StartAfter": after} if after else {})}
            page = self._call("list_objects_v2", **request)
            if after and f"{after}/".startswith(prefix) and _is_seaweedfs(page):
                yield from self.list(bucket, f"{after}/")
            for found in page.get("Contents", ()):
                after = found["Key"]
                yield Listed(after, found["Size"], found["ETag"].strip('"'), found["LastModified"].timestamp())
            if not page["IsTruncated"]:
                return

    def delete(self, bucket: Bucket, keys: Iterable[str]) -> None:
        name, todo = self._buckets[bucket], list(keys)
        versioned = "Status" in self._call("get_bucket_versioning", Bucket=name) if todo else False
        objects = [v for key in todo for v in self._versions(name, key)] if versioned else [{"Key": k} for k in todo]
        for start in range(0, len(objects), _DELETE_AT_ONCE):
            batch = {"Objects": objects[start : start + _DELETE_AT_ONCE], "Quiet": True}
            answer = self._call("delete_objects", Bucket=name, Delete=batch)
            for error in answer.get("Errors", ()):
                if error["Code"] in _MISSING:
                    continue
                if error["Code"] == "AccessDenied":
                    raise Conflict(
                        f"the store keeps {error['Key']} under retention: it can be erased when that ends",
                        key=error["Key"],
                    )
                raise Unavailable(f"the store could not delete {error['Key']}: {error['Code']}; it is tried again")

    def _versions(self, name: str, key: str) -> Iterator[dict[str, str]]:
        request: dict[str, Any] = {"Bucket": name, "Prefix": key}
        while True:
            page = self._call("list_object_versions", **request)
            for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if found["Key"] == key:
                    yield {"Key": key, "VersionId": found["VersionId"]}
            if not page["IsTruncated"]:
                return
            request |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    def sign_get(self, bucket: Bucket, key: str, *, seconds: int, if_match: str | None = None) -> Signed:
        return self._sign("GET", bucket, key, seconds, {"if-match": f'"{if_match}"'} if if_match else {})

    def sign_put(self, bucket: Bucket, key: str, *, sha256: bytes, seconds: int) -> Signed:
        return self._sign("PUT", bucket, key, seconds, {_CHECKSUM: b64encode(sha256).decode()})

    def sign_part(self, bucket: Bucket, key: str, upload: str, part: int, *, sha256: bytes, seconds: int) -> Signed:
        headers = {_CHECKSUM: b64encode(sha256).decode()}
        return self._sign("PUT", bucket, key, seconds, headers, partNumber=str(part), uploadId=upload)

    def _sign(
        self, method: str, bucket: Bucket, key: str, seconds: int, headers: dict[str, str], **query: str
    ) -> Signed:
        name = self._buckets[bucket]
        return Signed(self._signer.url(method, name, key, seconds=seconds, headers=headers, query=query), headers)

    def start_multipart(self, bucket: Bucket, key: str) -> str:
        request = {"Bucket": self._buckets[bucket], "Key": key}
        upload: str = self._call("create_multipart_upload", ChecksumAlgorithm="SHA256", **request)["UploadId"]
        return upload

    def put_part(self, bucket: Bucket, key: str, upload: str, part: int, data: bytes) -> None:
        request: dict[str, Any] = {"Bucket": self._buckets[bucket], "Key": key, "UploadId": upload, "PartNumber": part}
        request["ChecksumSHA256"] = b64encode(hashlib.sha256(data).digest()).decode()
        if self._try("upload_part", {"NoSuchUpload"}, Body=data, **request) is None:
            raise NotFound(f"the upload of {key} is over: it was completed or given up")

    def list_parts(self, bucket: Bucket, key: str, upload: str) -> dict[int, int]:
        return {number: size for number, (size, _) in self._parts(bucket, key, upload).items()}

    def _parts(self, bucket: Bucket, key: str, upload: str) -> dict[int, tuple[int, str]]:
        request: dict[str, Any] = {"Bucket": self._buckets[bucket], "Key": key, "UploadId": upload}
        found: dict[int, tuple[int, str]] = {}
        while True:
            page = self._try("list_parts", {"NoSuchUpload"}, **request)
            if page is None:
                raise NotFound(f"the upload of {key} is over: it was completed or given up")
            found |= {part["PartNumber"]: (part["Size"], part["ETag"]) for part in page.get("Parts", ())}
            if not page["IsTruncated"]:
                return found
            request["PartNumberMarker"] = page["NextPartNumberMarker"]

    def complete_multipart(self, bucket: Bucket, key: str, upload: str, parts: Sequence[bytes]) -> None:
        checksum = f"{b64encode(hashlib.sha256(b''.join(parts)).digest()).decode()}-{len(parts)}"
        try:
            there = self._parts(bucket, key, upload)
        except NotFound:
            head = self.head(bucket, key)
            if head is not None and head.sha256 == checksum:
                return  # completed before, by a call whose answer was lost
            raise
        for number in range(1, len(parts) + 1):
            if number not in there:
                raise Mismatch(f"part {number} of {key} was not uploaded")
        wanted = [
            {"PartNumber": number, "ETag": there[number][1], "ChecksumSHA256": b64encode(digest).decode()}
            for number, digest in enumerate(parts, 1)
        ]

        request = {
            "Bucket": self._buckets[bucket],
            "Key": key,
            "UploadId": upload,
            "MultipartUpload": {"Parts": wanted},
        }
        if self._try("complete_multipart_upload", _BAD_PARTS, **request) is None:
            raise Mismatch(f"the parts of {key} that were uploaded are not those of its digest: upload them again")
        head = self.head(bucket, key)
        if head is None or head.sha256 not in (None, checksum):
            self.delete(bucket, [key])
            raise Mismatch(f"the store has other bytes at {key} than its part digests say: upload it again")

    def abort_multipart(self, bucket: Bucket, key: str, upload: str) -> None:
        request = {"Bucket": self._buckets[bucket], "Key": key, "UploadId": upload}
        self._try("abort_multipart_upload", {"NoSuchUpload"}, **request)

    def _request(
        self,
        method: str,
        bucket: Bucket,
        key: str,
        headers: Mapping[str, str],
        data: bytes = b"",
        *,
        expected: int,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Reply | None:
        """A request of ours without boto3; None where the store answers with the status `expected`.

        `meanwhile` is done while the store works at it, and again where it is sent again.
        """
        name = self._buckets[bucket]

        def send(connection: http.client.HTTPConnection) -> Reply:
            connection.request(method, self._connections.target(url), data if method == "PUT" else None, dict(headers))
            meanwhile()
            return self._connections.reply(connection)

        for attempt in range(1, _ATTEMPTS + 1):
            url = self._own_signer.url(method, name, key, seconds=_SIGNED_SECONDS, headers=headers)
            try:
                reply = self._connections.exchange(url, send)
            except (OSError, http.client.HTTPException) as error:
                problem: PolyshareError = self._unavailable()
                problem.__cause__ = error
            else:
                if reply.status < 300:
                    return reply
                if reply.status == expected:
                    return None
                found = re.search(rb"<Code>(\w+)</Code>", reply.body)
                code = found[1].decode() if found else str(reply.status)
                problem = self._problem(code, reply.status) or PolyshareError(
                    f"the object store at {self._endpoint} answered {reply.status} {code} to {method} {key}"
                )
            if attempt == _ATTEMPTS or not isinstance(problem, Unavailable):
                raise problem
            self._connections.pause(0.1 * 4.0**attempt)
        raise AssertionError("the loop returns or raises")

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self._try(operation, (), **request) or {}

    def _try(self, operation: str, expected: Collection[str], **request: Any) -> dict[str, Any] | None:
        """None where the store answers with one of the error codes in `expected`."""
        from botocore.exceptions import ClientError

        with self._translating():
            try:
                answer: dict[str, Any] = getattr(self._client(), operation)(**request)
            except ClientError as error:
                if error.response["Error"]["Code"] in expected:
                    return None
                raise
            return answer

    @contextmanager
    def _translating(self) -> Iterator[None]:
        from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, IncompleteReadError

        try:
            yield
        except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
            raise self._unavailable() from error
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            problem = self._problem(code, error.response["ResponseMetadata"].get("HTTPStatusCode", 0))
            if problem is None:
                raise
            raise problem from error

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"the object store at {self._endpoint} does not answer: see polyshare doctor")

    def _problem(self, code: str, status: int) -> PolyshareError | None:
        """What an error code of S3's means to us, where it is one that we know."""
        if code == "NoSuchBucket":
            return Misconfigured(
                f"the object store at {self._endpoint} lacks one of the buckets"
                f" {', '.join(self._buckets.values())}: create it, or correct the POLYSHARE_BUCKET_ settings"
            )
        if code in _REFUSED:
            return Misconfigured(
                f"the object store at {self._endpoint} refuses this key ({code}): check what it may do, and"
                " POLYSHARE_S3_ACCESS_KEY_FILE and POLYSHARE_S3_SECRET_KEY_FILE, or this process's role"
            )
        if code == "RequestTimeTooSkewed":
            return Unavailable("the object store's clock and this machine's differ by minutes: set both")
        if status >= 500 or code in ("SlowDown", "ConditionalRequestConflict"):
            return Unavailable(
                f"the object store at {self._endpoint} answered {status} {code}: if it goes on, see whether its"
                " disk is full (polyshare doctor) and free some space"
            )
        return None

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                import boto3
                from botocore.config import Config

                self._made = boto3.session.Session(botocore_session=self._keys.session()).client(
                    "s3",
                    endpoint_url=self._endpoint,
                    region_name=self._region,
                    config=Config(
                        connect_timeout=_CONNECT_SECONDS,
                        read_timeout=_READ_SECONDS,
                        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                        max_pool_connections=32,
                        request_checksum_calculation="when_required",  # puts bring their SHA-256 along
                        s3={"addressing_style": "path", "payload_signing_enabled": False},
                        proxies={} if urlsplit(self._endpoint).hostname in _THIS_MACHINE else None,
                    ),
                )
            return self._made


def _tls() -> ssl.SSLContext:
    """The system's authorities, or those of AWS_CA_BUNDLE, which boto3 follows too."""
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))


def _is_seaweedfs(answer: dict[str, Any]) -> bool:
    return str(answer["ResponseMetadata"]["HTTPHeaders"].get("server", "")).startswith("SeaweedFS")
