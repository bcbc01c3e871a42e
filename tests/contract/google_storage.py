"""Google Cloud Storage's XML API, as far as an inbox needs it: list, get, put, If-Match, and signed URLs, checked.

(fake-gcs-server knows neither a PUT of the XML API, nor If-Match, nor signatures.)
https://cloud.google.com/storage/docs/xml-api/reference-methods and …/docs/access-control/signing-urls-manually
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from polyshare.store.inbox import CloudInbox

_PAGE = 3  # objects, so that listings have several pages


@dataclass
class Google:
    """Objects by (bucket, key), and the service account whose signatures hold."""

    key: RSA.RsaKey
    endpoint: str = ""
    objects: dict[tuple[str, str], tuple[bytes, float]] = field(default_factory=dict)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self.objects[bucket, key] = (data, time.time())

    def inbox(self, bucket: str) -> CloudInbox:
        account = {
            "client_email": "polyshare@example.iam.gserviceaccount.com",
            "private_key_id": "1",
            "private_key": self.key.export_key(pkcs=8).decode(),
            "gcs_base_url": self.endpoint,
        }
        options = {"service_account_key": json.dumps(account)}
        return CloudInbox(f"gs://{bucket}", config=options, client_options={"allow_http": True})

    def admits(self, method: str, path: str, headers: dict[str, str]) -> bool:
        """A signed URL, by its signature; another request by a token of the account, which is not looked at."""
        query = parse_qs(urlsplit(path).query)
        if "X-Goog-Signature" not in query:
            return headers.get("authorization", "").startswith("Bearer ")
        signed = "&".join(pair for pair in urlsplit(path).query.split("&") if not pair.startswith("X-Goog-Signature="))
        host = "host:storage.googleapis.com\n\nhost"  # obstore signs for Google's own, wherever it sends to
        canonical = f"{method}\n{urlsplit(path).path}\n{signed}\n{host}\nUNSIGNED-PAYLOAD"
        stamp, scope = query["X-Goog-Date"][0], query["X-Goog-Credential"][0].partition("/")[2]
        text = f"GOOG4-RSA-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        try:
            pkcs1_15.new(self.key).verify(SHA256.new(text.encode()), bytes.fromhex(query["X-Goog-Signature"][0]))
        except ValueError:
            return False
        return True

    def listing(self, bucket: str, query: dict[str, list[str]]) -> str:
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        slash = "delimiter" in query
        entries: dict[str, str] = {}
        for (where, key), (data, when) in sorted(self.objects.items()):
            if where != bucket or not key.startswith(prefix):
                continue
            if slash and "/" in key[len(prefix) :]:
                folder = prefix + key[len(prefix) :].partition("/")[0] + "/"
                entries[folder] = f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            else:
                at = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><LastModified>{at}</LastModified>"
                    f"<ETag>{etag(data)}</ETag><Size>{len(data)}</Size></Contents>"
                )
        names = [name for name in sorted(entries) if name > after]
        more = (
            f"<NextContinuationToken>{escape(names[_PAGE - 1])}</NextContinuationToken>" if len(names) > _PAGE else ""
        )
        return f"<ListBucketResult>{''.join(entries[name] for name in names[:_PAGE])}{more}</ListBucketResult>"


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@contextlib.contextmanager
def google() -> Iterator[Google]:
    served = Google(RSA.generate(2048))

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def admitted(self) -> bool:
            return served.admits(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})

        def do_GET(self) -> None:
            bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            if not self.admitted():
                return self.answer(403)
            if not key:
                return self.answer(200, served.listing(bucket, parse_qs(urlsplit(self.path).query)).encode())
            if (bucket, key) not in served.objects:
                return self.answer(404)
            data, when = served.objects[bucket, key]
            if self.headers.get("if-match", etag(data)) != etag(data):
                return self.answer(412)
            return self.answer(200, data, ETag=etag(data), Last_Modified=formatdate(when, usegmt=True))

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            if not self.admitted():
                return self.answer(403)
            served.put(bucket, key, data)
            return self.answer(200, ETag=etag(data))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    yield served
    server.shutdown()
    thread.join()
    server.server_close()
