"""Our presigned requests are botocore's, byte for byte; signing is cheap and imports next to nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from calendar import timegm
from urllib.parse import parse_qs, quote, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from polyshare.store.keys import Key
from polyshare.store.sign import Signer

KEY = Key("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SESSION = Key(KEY.access, KEY.secret, "IQoJb3JpZ2luX2VjE/+aBc==")
KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40).filter(
    lambda key: not key.startswith("/") and "//" not in key and not {".", ".."} & set(key.split("/"))
)


@given(
    KEYS,
    st.integers(1, 604_800),
    st.sampled_from(["GET", "PUT"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([KEY, SESSION]),
)
def test_urls_are_those_of_botocore(
    key: str, seconds: int, method: str, checksum: bool, part: bool, signed_by: Key
) -> None:
    headers = {"x-amz-checksum-sha256": "qSXCLq8V1g==", "if-match": '"abc"'} if checksum else {}
    query = {"partNumber": "7", "uploadId": "a/b+c="} if part else {}
    request = AWSRequest(method, f"http://127.0.0.1:8333/bucket-1/{quote(key, safe='/-._~')}", headers, params=query)
    credentials = Credentials(signed_by.access, signed_by.secret, signed_by.token or None)
    S3SigV4QueryAuth(credentials, "s3", "eu-west-1", expires=seconds).add_auth(request)
    theirs = request.prepare().url
    signed_at = timegm(time.strptime(parse_qs(urlsplit(theirs).query)["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ"))
    ours = Signer("http://127.0.0.1:8333/", "eu-west-1", lambda: signed_by).url(
        method, "bucket-1", key, seconds=seconds, headers=headers, query=query, now=signed_at
    )
    assert ours.partition("X-Amz-Signature=")[2] == theirs.partition("X-Amz-Signature=")[2]
    assert sorted(ours.partition("?")[2].split("&")) == sorted(theirs.partition("?")[2].split("&"))
    assert ours.partition("?")[0] == theirs.partition("?")[0]


def test_signing_imports_no_aws_library() -> None:
    code = "import polyshare.store.s3, polyshare.store.sign, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert not {"boto3", "botocore", "httpx", "requests"} & set(loaded.split())


def test_signing_takes_a_fraction_of_a_millisecond() -> None:
    signer = Signer("http://127.0.0.1:8333", "us-east-1", lambda: KEY)
    started = time.process_time()
    for number in range(1000):
        signer.url("PUT", "bucket", f"key/{number}", seconds=60, headers={"x-amz-checksum-sha256": "x"})
    assert time.process_time() - started < 0.5
