"""What an organisation's key of the inbox may do on a real SeaweedFS: one of its own, or a session by STS."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import boto3
import httpx
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from polyshare.api import InboxCredentials
from polyshare.errors import Invalid, Misconfigured, Unavailable
from polyshare.settings import Settings
from polyshare.stack import weed
from polyshare.stack.layout import Layout
from polyshare.stack.listening import inner_ports
from polyshare.store.inbox_session import inbox_session
from polyshare.store.keys import Given, Key
from polyshare.store.sign import Signer

INBOX, BLOBS = weed.BUCKETS["inbox"], weed.BUCKETS["blobs"]
ROOT = ("root-access", "root-secret")


@dataclass(frozen=True)
class Seaweed:
    endpoint: str
    root: Any
    settings: Settings


@dataclass(frozen=True)
class Mine:
    """The key of the organisation `mine`."""

    access: str
    secret: str
    token: str = ""

    def client(self, service: str, endpoint: str) -> Any:
        config = Config(
            retries={"max_attempts": 0}, connect_timeout=5, read_timeout=20, s3={"addressing_style": "path"}
        )
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name=weed.REGION,
            aws_access_key_id=self.access,
            aws_secret_access_key=self.secret,
            aws_session_token=self.token or None,
            config=config,
        )

    def key(self) -> Key:
        return Key(self.access, self.secret, self.token)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """SeaweedFS as the Terraform module storage runs it, with `mine` and `yours` as the embedded stack has them."""
    layout = Layout(tmp_path_factory.mktemp("weed"))
    layout.make()
    conf, ports = layout.store / "conf", inner_ports(layout, weed.PORTS)
    below = f"{INBOX}/mine/*"
    identities = [
        weed.identity("polyshare", *ROOT, "Admin Read Write List Tagging"),
        weed.identity("inbox-mine", "mine-access", "mine-secret", f"Read:{below} Write:{below} List:{below}"),
    ]
    signing_key = base64.b64encode(os.urandom(32)).decode()
    (conf / "s3.json").write_text(json.dumps({"identities": identities}))
    (conf / "iam.json").write_text(json.dumps(weed.roles(signing_key, INBOX)))
    command = [part for part in weed.command(layout, ports) if part != "-disableHttp"]
    environ = {"HOME": str(conf), "PATH": os.environ["PATH"], "GOMEMLIMIT": "400MiB"}
    with (tmp_path_factory.mktemp("log") / "weed").open("w") as log:
        process = subprocess.Popen(
            [*command, "-s3.iam.config=iam.json"], cwd=conf, env=environ, stdout=log, stderr=subprocess.STDOUT
        )
    endpoint = weed.endpoint(ports)
    settings = Settings(
        database="",
        s3_endpoint=endpoint,
        functions_url="",
        event_token_file="",
        jwt_issuer="",
        jwks_file="",
        inbox_role=weed.INBOX_ROLE,
        sts_endpoint=endpoint,
    )
    try:
        wait_until(lambda: weed._healthy(ports["weed_s3"]), 60)
        root = Mine(*ROOT).client("s3", endpoint)
        for bucket in (INBOX, BLOBS):
            root.create_bucket(Bucket=bucket)
            for organisation in ("mine", "yours", "mine2"):
                root.put_object(Bucket=bucket, Key=f"{organisation}/set/file", Body=b"first")
        yield Seaweed(endpoint, root, settings)
    finally:
        process.terminate()
        process.wait(30)
        weed.remove_sockets(ports)


@pytest.fixture(scope="module", params=["key", "session"])
def held(request: pytest.FixtureRequest, server: Seaweed) -> Mine:
    if request.param == "key":
        return Mine("mine-access", "mine-secret")
    found = inbox_session(server.settings, Given(*ROOT), "mine")
    return Mine(found.access_key, found.secret_key, found.session_token)


@pytest.fixture(scope="module")
def mine(server: Seaweed, held: Mine) -> Any:
    return held.client("s3", server.endpoint)


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)


def refused(act: Callable[[], Any]) -> bool:
    try:
        answer = act()
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)
    return {error["Code"] for error in answer.get("Errors", ())} in ({"AccessDenied"}, {"InvalidRequest"})


def test_an_inbox_key_works_below_its_prefix(mine: Any) -> None:
    mine.put_object(Bucket=INBOX, Key="mine/a/b", Body=b"x")
    assert mine.get_object(Bucket=INBOX, Key="mine/a/b")["Body"].read() == b"x"
    assert "mine/a/b" in [found["Key"] for found in mine.list_objects_v2(Bucket=INBOX, Prefix="mine/a/")["Contents"]]
    upload = mine.create_multipart_upload(Bucket=INBOX, Key="mine/a/c")["UploadId"]
    part = mine.upload_part(Bucket=INBOX, Key="mine/a/c", UploadId=upload, PartNumber=1, Body=b"y")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    mine.complete_multipart_upload(Bucket=INBOX, Key="mine/a/c", UploadId=upload, MultipartUpload=parts)
    mine.delete_object(Bucket=INBOX, Key="mine/a/b")


@pytest.mark.parametrize("key", ["yours/set/file", "mine2/set/file", "mine", "file", "mine/../yours/set/file"])
def test_an_inbox_key_reaches_no_other_prefix(server: Seaweed, mine: Any, key: str) -> None:
    assert refused(lambda: mine.get_object(Bucket=INBOX, Key=key))
    assert refused(lambda: mine.head_object(Bucket=INBOX, Key=key))
    assert refused(lambda: mine.put_object(Bucket=INBOX, Key=key, Body=b"evil"))
    assert refused(lambda: mine.delete_object(Bucket=INBOX, Key=key))
    assert refused(lambda: mine.delete_objects(Bucket=INBOX, Delete={"Objects": [{"Key": key}]}))
    assert refused(lambda: mine.create_multipart_upload(Bucket=INBOX, Key=key))
    assert refused(lambda: mine.get_object_tagging(Bucket=INBOX, Key=key))
    assert refused(lambda: mine.copy_object(Bucket=INBOX, Key="mine/stolen", CopySource=f"{INBOX}/{key}"))
    for organisation in ("yours", "mine2"):
        found = server.root.get_object(Bucket=INBOX, Key=f"{organisation}/set/file")
        assert found["Body"].read() == b"first"


@pytest.mark.parametrize("prefix", ["", "m", "mine", "yours/", "mine2/", "/"])
def test_an_inbox_key_lists_no_other_prefix(mine: Any, prefix: str) -> None:
    assert refused(lambda: mine.list_objects_v2(Bucket=INBOX, Prefix=prefix))
    assert refused(lambda: mine.list_objects(Bucket=INBOX, Prefix=prefix))
    assert refused(lambda: mine.list_object_versions(Bucket=INBOX, Prefix=prefix))
    assert refused(lambda: mine.list_multipart_uploads(Bucket=INBOX, Prefix=prefix))


def test_an_inbox_key_lists_nothing_by_a_crooked_prefix(mine: Any) -> None:
    for prefix in ("mine/../yours/", "mine//../yours/", "mine/../"):
        assert not mine.list_objects_v2(Bucket=INBOX, Prefix=prefix).get("Contents")
        with contextlib.suppress(mine.exceptions.AccessDenied):
            assert not mine.list_object_versions(Bucket=INBOX, Prefix=prefix).get("Versions")


def test_an_inbox_key_posts_no_form_elsewhere(server: Seaweed, mine: Any) -> None:
    for key, name in (("mine/../yours/f", "f"), ("mine/${filename}", "../yours/f"), ("yours/f", "f")):
        form = mine.generate_presigned_post(INBOX, key)
        answer = httpx.post(form["url"], data=form["fields"], files={"file": (name, b"evil")}, timeout=20)
        assert answer.status_code in (400, 403), key
    assert [o["Key"] for o in server.root.list_objects_v2(Bucket=INBOX, Prefix="yours/")["Contents"]] == [
        "yours/set/file"
    ]


def test_an_inbox_key_reaches_no_other_bucket_and_no_bucket_itself(mine: Any) -> None:
    assert refused(lambda: mine.get_object(Bucket=BLOBS, Key="mine/set/file"))
    assert refused(lambda: mine.put_object(Bucket=BLOBS, Key="mine/set/file", Body=b"evil"))
    assert refused(lambda: mine.list_objects_v2(Bucket=BLOBS, Prefix="mine/"))
    assert refused(lambda: mine.copy_object(Bucket=INBOX, Key="mine/x", CopySource=f"{BLOBS}/mine/set/file"))
    assert refused(lambda: mine.create_bucket(Bucket="evil"))
    assert refused(lambda: mine.delete_bucket(Bucket=INBOX))
    assert refused(lambda: mine.put_bucket_versioning(Bucket=INBOX, VersioningConfiguration={"Status": "Enabled"}))
    open_to_all = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{INBOX}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [open_to_all]})
    assert refused(lambda: mine.put_bucket_policy(Bucket=INBOX, Policy=policy))
    assert refused(lambda: mine.put_bucket_acl(Bucket=INBOX, ACL="public-read-write"))
    assert mine.list_buckets()["Buckets"] == []


@pytest.mark.parametrize("what", ["policy", "lifecycle", "cors", "tagging", "versioning", "acl", "object-lock"])
def test_a_prefix_in_the_query_does_not_open_the_bucket_itself(server: Seaweed, held: Mine, what: str) -> None:
    """SeaweedFS takes the query's prefix for the object where a request has none."""
    signer = Signer(server.endpoint, weed.REGION, held.key)
    for method in ("GET", "PUT", "DELETE"):
        url = signer.url(method, INBOX, "", seconds=60, query={what: "", "prefix": "mine/set"})
        assert httpx.request(method, url, content=b"<x/>" if method == "PUT" else None, timeout=20).status_code == 403


def test_a_key_makes_no_more_keys(server: Seaweed, held: Mine) -> None:
    with pytest.raises((ClientError, ResponseParserError)):
        held.client("iam", server.endpoint).create_access_key()
    for organisation in ("mine", "yours"):
        with pytest.raises(Misconfigured, match="AccessDenied"):
            inbox_session(server.settings, Held(held), organisation)


class Held(Given):
    """A session's key, which Given has no token for."""

    def __init__(self, held: Mine) -> None:
        super().__init__(held.access, held.secret)
        self._held = held

    def session(self) -> Any:
        import botocore.session

        session = botocore.session.get_session()
        session.set_credentials(self._held.access, self._held.secret, self._held.token or None)
        return session


def test_a_session_says_when_it_ends_and_where_it_holds(server: Seaweed) -> None:
    found: InboxCredentials = inbox_session(server.settings, Given(*ROOT), "acme")
    assert (found.bucket, found.prefix, found.endpoint) == (INBOX, "acme/", server.endpoint)
    assert found.expires is not None
    assert 3500 < found.expires - time.time() < 3700


@pytest.mark.parametrize("organisation", ["", "*", "a/b", "a*", "../x", "A", "a" * 65])
def test_an_organisation_that_is_a_pattern_gets_no_session(server: Seaweed, organisation: str) -> None:
    with pytest.raises(Invalid):
        inbox_session(server.settings, Given(*ROOT), organisation)


def test_what_keeps_sts_from_giving_a_session_is_named(server: Seaweed) -> None:
    with pytest.raises(Misconfigured, match="POLYSHARE_INBOX_ROLE"):
        inbox_session(server.settings, Given("root-access", "wrong"), "mine")
    other = replace(server.settings, inbox_role=f"{weed.INBOX_ROLE}-other")
    with pytest.raises(Misconfigured, match="inbox-other"):
        inbox_session(other, Given(*ROOT), "mine")
    with pytest.raises(Unavailable, match="STS"):
        inbox_session(replace(server.settings, sts_endpoint="http://127.0.0.1:9"), Given(*ROOT), "mine")


def test_the_role_itself_is_of_no_use_to_others_and_a_cut_token_neither(server: Seaweed) -> None:
    found = inbox_session(server.settings, Given(*ROOT), "mine")
    for token in ("", found.session_token[:-4] + "AAAA"):
        client = Mine(found.access_key, found.secret_key, token).client("s3", server.endpoint)
        assert refused(lambda client=client: client.get_object(Bucket=INBOX, Key="mine/set/file"))  # type: ignore[misc]
