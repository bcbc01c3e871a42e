"""A store reached by a role, as IRSA gives pods one: boto3 finds it, it is renewed, requests name its session."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from polyshare import bootstrap
from polyshare.errors import Misconfigured, Unavailable
from polyshare.ports import Bucket
from polyshare.settings import Settings
from polyshare.store.keys import Role
from polyshare.store.s3 import S3Store

REGION = "eu-west-1"
HOUR, SOON = 3600, 300  # botocore renews what ends within 10 minutes before it is used again


@dataclass
class Aws:
    """STS, which gives a session for the pod's token; and S3, which takes requests of the newest session only."""

    url: str = ""
    lasts: int = HOUR
    status: int = 200  # of STS
    sessions: list[Credentials] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)

    def assume(self, form: dict[str, list[str]]) -> tuple[int, str]:
        if self.status != 200 or form["WebIdentityToken"] != ["the pod's"]:
            return max(
                self.status, 400
            ), "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>"
        number = len(self.sessions)
        made = Credentials(f"ASIA{number}", f"secret{number}", f"session/{number}+a==")
        self.sessions.append(made)
        ends = datetime.fromtimestamp(time.time() + self.lasts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        given = (
            f"<AccessKeyId>{made.access_key}</AccessKeyId><SecretAccessKey>{made.secret_key}</SecretAccessKey>"
            f"<SessionToken>{made.token}</SessionToken><Expiration>{ends}</Expiration>"
        )
        result = "AssumeRoleWithWebIdentityResult"
        return 200, f"<R><{result}><Credentials>{given}</Credentials></{result}></R>"

    def admits(self, method: str, path: str, headers: dict[str, str]) -> bool:
        """A presigned URL by its signature, which botocore makes anew; another request by its session's token."""
        session, query = self.sessions[-1], parse_qs(urlsplit(path).query)
        if "X-Amz-Signature" not in query:
            return headers["x-amz-security-token"] == session.token
        signed, _, signature = path.partition("&X-Amz-Signature=")
        names = query["X-Amz-SignedHeaders"][0].split(";")
        request = AWSRequest(method, self.url + signed, {name: headers[name] for name in names})
        request.context["timestamp"] = query["X-Amz-Date"][0]
        auth = S3SigV4QueryAuth(session, "s3", REGION)
        wanted = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        return query["X-Amz-Security-Token"] == [session.token] and signature == wanted


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Both at one address, and the environment in which EKS's webhook puts a pod."""
    served = Aws()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("content-length", 0)))

        def do_POST(self) -> None:
            status, text = served.assume(parse_qs(self.body().decode()))
            self.answer(status, text.encode())

        def do_PUT(self) -> None:
            body, key = self.body(), urlsplit(self.path).path
            if not served.admits("PUT", self.path, {k.lower(): v for k, v in self.headers.items()}):
                return self.answer(403, b"<Error><Code>ExpiredToken</Code></Error>")
            served.objects[key] = body
            return self.answer(200)

        def do_GET(self) -> None:
            if not served.admits("GET", self.path, {k.lower(): v for k, v in self.headers.items()}):
                return self.answer(403, b"<Error><Code>ExpiredToken</Code></Error>")
            return self.answer(200, served.objects[urlsplit(self.path).path])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    (tmp_path / "token").write_text("the pod's")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/polyshare-store")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", served.url)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def store(aws: Aws) -> S3Store:
    return S3Store(endpoint=aws.url, region=REGION, keys=Role(REGION), buckets={Bucket.BLOBS: "blobs"})


def test_a_role_puts_and_gets_and_signs_for_others(aws: Aws) -> None:
    mine = store(aws)
    mine.put(Bucket.BLOBS, "a/b c", b"bytes")
    assert mine.get(Bucket.BLOBS, "a/b c") == b"bytes"
    signed = mine.sign_get(Bucket.BLOBS, "a/b c", seconds=60, if_match="1")
    assert httpx.get(signed.url, headers=dict(signed.headers), trust_env=False).content == b"bytes"
    assert httpx.get(signed.url.replace("b%20c", "other"), headers=dict(signed.headers)).status_code == 403
    assert len(aws.sessions) == 1


def test_a_session_that_nears_its_end_is_renewed_before_anything_is_signed(aws: Aws) -> None:
    aws.lasts = SOON
    mine = store(aws)
    mine.put(Bucket.BLOBS, "key", b"1")
    aws.lasts = HOUR
    mine.put(Bucket.BLOBS, "key", b"2")
    renewed = len(aws.sessions)
    assert renewed > 1
    assert mine.get(Bucket.BLOBS, "key") == b"2"
    assert httpx.get(mine.sign_get(Bucket.BLOBS, "key", seconds=60).url, trust_env=False).content == b"2"
    assert len(aws.sessions) == renewed


def test_what_keeps_a_role_from_us_is_named(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.status = 503
    with pytest.raises(Unavailable, match="role"):
        store(aws).put(Bucket.BLOBS, "key", b"")
    aws.status = 200
    (tmp_path / "token").write_text("another's")
    with pytest.raises(Misconfigured, match=r"InvalidIdentityToken.*trust policy"):
        store(aws).put(Bucket.BLOBS, "key", b"")
    (tmp_path / "token").unlink()
    with pytest.raises(Misconfigured, match="can't be had"):
        store(aws).put(Bucket.BLOBS, "key", b"")
    monkeypatch.delenv("AWS_WEB_IDENTITY_TOKEN_FILE")
    monkeypatch.delenv("AWS_ROLE_ARN")
    with pytest.raises(Misconfigured, match="POLYSHARE_S3_ACCESS_KEY_FILE"):
        store(aws).put(Bucket.BLOBS, "key", b"")


def test_urls_that_would_outlive_their_session_are_refused_at_the_start(aws: Aws) -> None:
    settings = {"database": "sqlite://", "s3_endpoint": aws.url, "functions_url": "http://127.0.0.1:9/{function}"}
    settings |= {"event_token_file": "unused", "jwt_issuer": "unused", "jwks_file": "unused", "s3_region": REGION}
    environ = {f"POLYSHARE_{name.upper()}": value for name, value in settings.items()}
    bootstrap.build(Settings.read(environ)).store().put(Bucket.JOURNAL, "key", b"")
    with pytest.raises(Misconfigured, match="POLYSHARE_URL_SECONDS is 601"):
        bootstrap.build(Settings.read(environ | {"POLYSHARE_URL_SECONDS": "601"})).store()
