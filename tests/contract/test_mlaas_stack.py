"""mlaas at the root of a running stack: a client with a .netrc, the inbox by boto3, and bytes of more than one part."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from polyshare.hashing import SMALLEST_PART
from tests.e2e.machine import Machine

SECONDS = 60
BIG = bytes(range(256)) * (SMALLEST_PART // 256) * 2 + b"and a bit"


class Original:
    """A client of the original platform, which takes its name and password from .netrc."""

    def __init__(self, stack: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        profile = json.loads(stack.layout.profile.read_text())
        self.url = profile["url"].removesuffix("/{function}")
        netrc = stack.home / ".netrc"
        netrc.write_text(f"machine 127.0.0.1 login any password {profile['token']}\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        keys = stack.json("inbox", "credentials")
        self.bucket, self.organisation = keys["bucket"], keys["prefix"].rstrip("/")
        self.s3: Any = boto3.client(
            "s3",
            endpoint_url=keys["endpoint"],
            region_name=keys["region"],
            aws_access_key_id=keys["access_key"],
            aws_secret_access_key=keys["secret_key"],
        )

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(method, self.url + path, timeout=SECONDS, **more)

    def drop(self, announced: bytes, data: bytes) -> tuple[str, Any]:
        """Reserve, put, and wait for what comes of it: the id, and the status."""
        body = {"organization_id": self.organisation, "samples_dimension": 1}
        body |= {"hash": hashlib.sha256(announced).hexdigest()}
        dataset = self.ask("POST", "/dataset", json=body).json()["dataset_id"]
        self.s3.put_object(Bucket=self.bucket, Key=f"{self.organisation}/{dataset}/data.bin", Body=data)
        return dataset, self.wait(dataset)

    def wait(self, asset: str) -> Any:
        deadline = time.monotonic() + SECONDS
        while True:
            token = requests.utils.get_netrc_auth(self.url)[1]  # type: ignore[index]
            header = {"Authorization": f"Bearer {token}"}
            status = requests.get(f"{self.url}/query_status/{asset}", headers=header, timeout=SECONDS, auth=_as_it_is)
            found = status.json()
            if found["finished"] or time.monotonic() > deadline:
                return found
            time.sleep(0.2)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("mlaas"))
    try:
        machine.up()
        yield machine
    finally:
        machine.clean()


@pytest.fixture
def client(stack: Machine, monkeypatch: pytest.MonkeyPatch) -> Original:
    return Original(stack, monkeypatch)


def test_bytes_of_many_parts_go_in_by_the_bucket_and_come_out_at_the_root(client: Original, tmp_path: Path) -> None:
    dataset, status = client.drop(BIG, BIG)
    assert status["state"] == "registered", status
    answer = client.ask("GET", f"/dataset/{dataset}")
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(BIG).digest()
    query = {"res_hash": hashlib.sha256(BIG).hexdigest(), "type": "dataset"}
    verified = client.ask("POST", f"/contract/{status['address']}/verify", params=query).json()
    assert verified["verified"], verified


def test_a_hash_in_one_pass_over_many_parts_is_enforced(client: Original) -> None:
    _, status = client.drop(BIG, BIG[:-1] + b"T")
    assert status["state"] == "failed"
    assert hashlib.sha256(BIG).hexdigest() in status["reason"]


def test_a_large_model_is_put_and_comes_back(client: Original) -> None:
    body = {"developer_id": 1, "organization_id": client.organisation, "hash": hashlib.sha256(BIG).hexdigest()}
    model = client.ask("POST", "/model/unverified", json=body).json()["model_id"]
    stored = client.ask("PUT", f"/model/{model}", files={"model": ("model.bin", BIG)})
    assert stored.status_code == 200, stored.text
    assert client.ask("GET", f"/model/{model}").content == BIG
    status = client.wait(model)
    found = client.ask("GET", f"/contract/model_unverified/{status['address']}").json()
    assert (found["id"], found["anchored"]) == (model, True)


def test_the_functions_and_the_page_are_not_hidden_and_what_is_not_there_is_told_so(client: Original) -> None:
    assert client.ask("GET", "/prove/trust-root", auth=_as_it_is).status_code == 200
    assert client.ask("GET", "/", allow_redirects=False, auth=_as_it_is).status_code in (302, 307)
    nothing = client.ask("GET", "/nothing/here")
    assert (nothing.status_code, nothing.headers["content-type"]) == (404, "application/problem+json")
