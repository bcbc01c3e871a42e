"""Files put in the inbox with any S3 client become a registered, anchored dataset without any call by their owner."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from polyshare.api import InboxCredentials
from tests.e2e.machine import Machine, wait_until
from tests.faults.load import s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024 * 1024


class Inbox:
    """The inbox as an organisation sees it with its key."""

    def __init__(self, key: InboxCredentials) -> None:
        self.key = key
        self.s3: S3Client = s3(key)

    def put(self, name: str, files: dict[str, bytes], marker: bytes | None = b"{}") -> None:
        """Files, then the marker that says that they are complete."""
        for path, data in files.items():
            self.s3.put_object(Bucket=self.key.bucket, Key=f"{self.key.prefix}{name}/{path}", Body=data)
        if marker is not None:
            self.s3.put_object(Bucket=self.key.bucket, Key=f"{self.key.prefix}{name}/dataset.json", Body=marker)

    def status(self, name: str) -> dict[str, Any]:
        """What is written beside the files; {} as long as there is nothing."""
        try:
            answer = self.s3.get_object(Bucket=self.key.bucket, Key=f"{self.key.prefix}{name}/polyshare.status.json")
        except ClientError:
            return {}
        status: dict[str, Any] = json.loads(answer["Body"].read())
        return status

    def wait(self, name: str, state: str, *, version: int | None = None, seconds: float = 120) -> dict[str, Any]:
        status: dict[str, Any] = {}
        deadline = time.monotonic() + seconds
        while status.get("state") != state or (version and status.get("version") != version):
            assert time.monotonic() < deadline, f"{name} is not {state}: {status}"
            time.sleep(0.2)
            status = self.status(name)
        return status


@pytest.fixture(scope="module")
def inbox(stack: Machine) -> Inbox:
    return Inbox(InboxCredentials(**stack.json("inbox", "credentials")))


def test_files_and_a_marker_become_an_anchored_dataset(stack: Machine, inbox: Inbox, tmp_path: Path) -> None:
    files = {"train/a.csv": b"1,2\n" * 1000, "test/b.csv": b"3,4\n", "empty": b""}
    inbox.put("sensors", files, b'{"metadata": {"licence": "CC0-1.0"}, "visibility": "public"}')
    status = inbox.wait("sensors", "registered")
    assert status["version"] == 1
    assert status["address"].startswith("0x")
    _is_fetched_and_verifies(stack, status["id"], files, tmp_path)
    assert "CC0-1.0" in json.dumps(stack.json("show", "local/sensors"))
    assert [asset.visibility for asset in stack.client().list(name="sensors").assets] == ["public"]


@pytest.mark.skipif(shutil.which("aws") is None, reason="there is no aws command here")
def test_the_aws_command_will_do(stack: Machine, inbox: Inbox, tmp_path: Path) -> None:
    folder = tmp_path / "from-aws"
    folder.mkdir()
    files = {"a.csv": b"a\n", "large.bin": bytes(range(256)) * (20 * MIB // 256)}  # a multipart upload of three parts
    for path, data in files.items():
        (folder / path).write_bytes(data)
    (tmp_path / "dataset.json").write_text('{"metadata": {"by": "aws"}}')
    target = f"s3://{inbox.key.bucket}/{inbox.key.prefix}from-aws/"
    _aws(inbox.key, "s3", "cp", "--recursive", str(folder), target)
    _aws(inbox.key, "s3", "cp", str(tmp_path / "dataset.json"), target)
    status = inbox.wait("from-aws", "registered")
    _is_fetched_and_verifies(stack, status["id"], files, tmp_path / "fetched")


def test_an_object_that_was_uploaded_in_parts_is_hashed_in_ours(stack: Machine, inbox: Inbox, tmp_path: Path) -> None:
    data = os.urandom(MIB) * 40
    (tmp_path / "large").write_bytes(data)
    inbox.s3.upload_file(str(tmp_path / "large"), inbox.key.bucket, f"{inbox.key.prefix}large/large.bin")
    inbox.put("large", {})
    status = inbox.wait("large", "registered")
    files = stack.client().document(status["id"]).content
    assert files is not None
    assert [file.digest.split(":")[0] for file in files.files] == ["sha256-3"]
    _is_fetched_and_verifies(stack, status["id"], {"large.bin": data}, tmp_path / "fetched")


def test_a_lost_notification_is_made_up_for(stack: Machine, inbox: Inbox, tmp_path: Path) -> None:
    with stack.without("functions"):
        inbox.put("unnoticed", {"a": b"1"})
        time.sleep(10)  # the store has tried to tell, and given up
        assert inbox.status("unnoticed") == {}
    status = inbox.wait("unnoticed", "registered")
    _is_fetched_and_verifies(stack, status["id"], {"a": b"1"}, tmp_path)


def test_a_new_marker_makes_a_new_version(stack: Machine, inbox: Inbox) -> None:
    inbox.put("growing", {"a": b"1"}, b'{"metadata": {"month": 1}}')
    first = inbox.wait("growing", "registered")
    inbox.put("growing", {"b": b"2"}, b'{"metadata": {"month": 2}}')
    second = inbox.wait("growing", "registered", version=2)
    assert second["id"] != first["id"]
    document = stack.client().document("local/growing@2")
    assert document.content is not None
    assert [file.path for file in document.content.files] == ["a", "b"]
    contract = stack.client().contract(second["id"])
    assert contract.supersedes == first["address"]
    inbox.put("growing", {"a": b"1, corrected"}, b'{"metadata": {"month": 2}}')  # the marker is the same as before
    inbox.wait("growing", "registered", version=3)


def test_without_a_marker_nothing_happens_yet(stack: Machine, inbox: Inbox) -> None:
    inbox.put("unfinished", {"a": b"1"}, marker=None)
    time.sleep(5)  # two sweeps
    assert inbox.status("unfinished") == {}
    assert "unfinished" not in {asset.name for asset in stack.client().list(limit=100).assets}


def test_an_object_that_changes_while_it_is_read_fails_by_name(stack: Machine, inbox: Inbox) -> None:
    with stack.without("runner"):
        inbox.put("unsteady", {"kept": b"1", "changed.csv": b"before"})
        inbox.wait("unsteady", "ingesting")
        inbox.put("unsteady", {"changed.csv": b"after!"}, marker=None)
    status = inbox.wait("unsteady", "failed")
    assert "changed.csv" in status["reason"]
    assert "changed while it was read" in status["reason"]
    inbox.put("unsteady", {}, b'{"metadata": {"try": 2}}')
    assert inbox.wait("unsteady", "registered")["version"] == 1


def test_an_object_that_goes_before_it_is_read_fails_by_name(stack: Machine, inbox: Inbox) -> None:
    with stack.without("runner"):
        inbox.put("vanishing", {"kept": b"1", "gone.csv": b"before"})
        inbox.wait("vanishing", "ingesting")
        _root(stack).delete_object(Bucket=inbox.key.bucket, Key=f"{inbox.key.prefix}vanishing/gone.csv")
    assert "gone.csv" in inbox.wait("vanishing", "failed")["reason"]


@pytest.mark.parametrize(
    ("name", "files", "marker", "reason"),
    [
        ("not-json", {"a": b"1"}, b"licence: CC0", "dataset.json"),
        ("unknown-field", {"a": b"1"}, b'{"licence": "CC0"}', "licence"),
        ("nested", {"a": b"1"}, b'{"metadata": {"of": {"a": 1}}}', "of"),
        ("taken-field", {"a": b"1"}, b'{"metadata": {"organisation": "else"}}', "organisation"),
        ("bad-visibility", {"a": b"1"}, b'{"visibility": "everyone"}', "visibility"),
        ("nobodys", {"a": b"1"}, b'{"visibility": "private"}', "organisation"),
        ("no-files", {}, b"{}", "no files"),
        ("Bad_Name!", {"a": b"1"}, b"{}", "Bad_Name!"),
        ("case", {"a": b"1", "A": b"2"}, b"{}", "A"),
        ("too-long", {"a": b"1"}, b" " * 300_000, "dataset.json"),
    ],
)
def test_a_drop_that_can_not_be_registered_is_refused_with_its_reason(
    inbox: Inbox, name: str, files: dict[str, bytes], marker: bytes, reason: str
) -> None:
    inbox.put(name, files, marker)
    assert reason in inbox.wait(name, "refused", seconds=60)["reason"]


def test_the_key_is_good_for_its_own_prefix_only(stack: Machine, inbox: Inbox) -> None:
    other = InboxCredentials(**stack.json("inbox", "credentials"))
    assert other.access_key == inbox.key.access_key, "the same organisation has the same key"
    for key in ("else/x/a", "localx/a", "a"):
        assert _status(lambda key=key: inbox.s3.put_object(Bucket=inbox.key.bucket, Key=key, Body=b"1")) == 403
        assert _status(lambda key=key: inbox.s3.get_object(Bucket=inbox.key.bucket, Key=key)) == 403
    assert _status(lambda: inbox.s3.list_objects_v2(Bucket=inbox.key.bucket, Prefix="else/")) == 403
    assert _status(lambda: inbox.s3.put_object(Bucket="polyshare-blobs", Key="local/a", Body=b"1")) == 403
    assert _status(lambda: inbox.s3.get_object(Bucket="polyshare-journal", Key="a")) == 403


def _is_fetched_and_verifies(stack: Machine, asset: str, files: dict[str, bytes], folder: Path) -> None:
    with stack.client() as client:
        wait_until(lambda: client.status(asset).anchored, 60, f"{asset} is not anchored")
        client.fetch(asset, folder)
        assert client.verify(folder).verdict == "verified"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found.pop("polyshare.json")
    assert found == files


def _status(act: Any) -> int:
    try:
        act()
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
    return 200


def _root(stack: Machine) -> S3Client:
    """The store with the registry's own key."""
    secrets = stack.layout.secrets
    return s3(
        InboxCredentials(
            endpoint=stack.state["store"],
            region="us-east-1",
            bucket="",
            prefix="",
            access_key=(secrets / "s3_access_key").read_text().strip(),
            secret_key=(secrets / "s3_secret_key").read_text().strip(),
        )
    )


def _aws(key: InboxCredentials, *arguments: str) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret_key,
        "AWS_DEFAULT_REGION": key.region,
        "AWS_CONFIG_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
    command = ["aws", "--endpoint-url", key.endpoint, "--only-show-errors", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
