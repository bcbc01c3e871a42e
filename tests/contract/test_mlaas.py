"""The original platform's REST paths, as its clients call them: over HTTP, on the fakes of tests.world."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from polyshare import mlaas, openapi
from polyshare.assets import Caller, Role
from polyshare.hashing import SMALLEST_PART, digest_bytes
from polyshare.ports import Bucket
from tests.unit.http_world import HttpWorld, Reply, path_of
from tests.world import ALICE, BOB, CAROL, READER

IMAGE = "example.org/trainer@sha256:" + "5e" * 32
BOUNDARY = "----polyshare"
ROWS = b"5.1,3.5,0\n6.2,2.9,1\n"
DOCUMENT = openapi.document()


def hex_of(data: bytes) -> str:
    return sha256(data).hexdigest()


def form(data: bytes, *, field: str = "model", name: str = "model.bin") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
    return f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


class Client:
    """Knows paths, and a name and a password from its .netrc."""

    def __init__(self, folder: Path) -> None:
        self.http = HttpWorld(folder)
        self.world = self.http.world

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        caller: Caller | None = ALICE,
        query: str = "",
        **headers: str,
    ) -> Reply:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if caller is not None:
            given = base64.b64encode(f"whoever:{self.http.token(caller)}".encode()).decode()
            sent.setdefault("authorization", f"Basic {given}")
        return self.http.call("mlaas", method, path, body, caller=None, headers=sent, query=query)

    def put(self, model: str, data: bytes, *, caller: Caller = ALICE, **named: str) -> Reply:
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return self.call("PUT", f"/model/{model}", form(data, **named), caller=caller, content_type=kind)

    def reserve(self, **more: Any) -> str:
        reply = self.call("POST", "/dataset", {"organization_id": "acme", "samples_dimension": 3, **more})
        assert reply.status == 201, reply
        return str(reply.json["dataset_id"])

    def drop(self, dataset: str, contents: Mapping[str, bytes], *, marker: bytes | None = None) -> None:
        self.world.drop(f"acme/{dataset}/", contents, marker)
        self.world.settle(sweeps=3)

    def dataset(self, data: bytes = ROWS) -> str:
        reserved = self.reserve(hash=hex_of(data), size_bytes=len(data))
        self.drop(reserved, {"rows.csv": data})
        assert self.state(reserved)["state"] == "registered"
        return reserved

    def model(self, dataset: str, **more: Any) -> str:
        given = {"developer_id": "dora", "organization_id": "acme", "train_image": IMAGE, **more}
        body = {"model_params": given, "data_params": {"dataset_id": dataset}}
        reply = self.call("POST", "/model", body)
        assert reply.status == 201, reply
        return str(reply.json["model_id"])

    def unverified(self, **more: Any) -> str:
        reply = self.call("POST", "/model/unverified", {"developer_id": 7, "organization_id": "acme", **more})
        assert reply.status == 201, reply
        return str(reply.json["model_id"])

    def state(self, asset: str) -> Any:
        return self.http.call("query_status", "GET", f"/{asset}").json


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


# --- the whole path -----------------------------------------------------------------------------------------------


def test_a_client_of_the_original_platform_goes_from_dataset_to_verified_model(client: Client) -> None:
    dataset = client.dataset()
    assert client.call("GET", f"/dataset/{dataset}", caller=READER).body == ROWS
    model = client.model(dataset, res_hash=hex_of(b"whatever it thinks"))
    described = client.call("GET", f"/model/{model}/metadata").json
    assert (described["state"], described["contract"], described["dataset_id"]) == ("uploading", None, dataset)
    started = client.call("POST", f"/train/{model}", {"trees": 3})
    assert started.status == 202
    client.world.settle(sweeps=2)
    described = client.call("GET", f"/model/{model}/metadata", caller=READER).json
    assert described["state"] == "trained"
    assert described["anchored"]
    assert described["contract"] == started.json["contract"]
    assert described["params"] == {"trees": 3}
    assert described["developer_id"] == "dora"
    assert described["train_image"] == f"oci:{IMAGE}"
    archive = client.call("GET", f"/model/{model}", caller=READER)
    assert archive.headers["content-type"] == "application/x-tar"
    assert int(archive.headers["content-length"]) == len(archive.body)
    with tarfile.open(fileobj=io.BytesIO(archive.body)) as opened:
        assert {member.name: member.size for member in opened} == {f["path"]: f["size"] for f in described["files"]}
    read = client.call("GET", f"/contract/model/{started.json['contract']}").json
    assert read["id"] == model
    assert read["result"] is not None


def test_an_unverified_model_is_registered_as_imported_by_its_bytes(client: Client) -> None:
    data = b"weights"
    model = client.unverified(hash=hex_of(data))
    stored = client.put(model, data)
    assert stored.status == 200
    client.world.settle(sweeps=1)
    fetched = client.call("GET", f"/model/{model}")
    assert fetched.body == data
    assert fetched.headers["etag"] == f'"sha256:{hex_of(data)}"'
    assert "model.bin" in fetched.headers["content-disposition"]
    assert client.state(model)["kind"] == "imported_model"
    described = client.call("GET", f"/model/{model}/metadata").json
    assert (described["type"], described["developer_id"]) == ("model_unverified", 7)
    assert described["metadata"]["trained_by_platform"] is False
    found = client.call("POST", "/contract/model_unverified", {"model_id": model}).json
    assert found["address"] == stored.json["contract"]
    verified = client.call("POST", f"/contract/{found['address']}/verify", query=f"res_hash={hex_of(data)}").json
    assert verified["verified"], verified


# --- datasets -----------------------------------------------------------------------------------------------------


def test_a_dataset_of_which_nothing_was_announced_is_complete_with_dataset_json(client: Client) -> None:
    dataset = client.reserve(samples_dimension=[28, 28])
    client.drop(dataset, {"train/a.csv": b"1\n", "test/b.csv": b"2\n"})
    assert client.state(dataset)["state"] == "uploading"
    assert client.call("GET", f"/dataset/{dataset}").problem == "conflict"
    client.drop(dataset, {}, marker=b"{}")
    assert client.state(dataset)["state"] == "registered"
    archive = client.call("GET", f"/dataset/{dataset}")
    with tarfile.open(fileobj=io.BytesIO(archive.body)) as opened:
        assert [(m.name, opened.extractfile(m).read()) for m in opened] == [  # type: ignore[union-attr]
            ("test/b.csv", b"2\n"),
            ("train/a.csv", b"1\n"),
        ]
    document = client.http.call("fetch_asset", "GET", f"/{dataset}").json
    assert document["registrant"] == "alice"


def test_a_dataset_whose_size_was_announced_waits_for_all_its_bytes(client: Client) -> None:
    dataset = client.reserve(size_bytes=6)
    client.drop(dataset, {"a": b"123"})
    assert client.state(dataset)["state"] == "uploading"
    client.drop(dataset, {"b": b"456"})
    assert client.state(dataset)["state"] == "registered"


def test_other_bytes_than_were_announced_fail_the_dataset_with_the_reason(client: Client) -> None:
    dataset = client.reserve(hash=hex_of(ROWS))
    client.drop(dataset, {"rows.csv": b"other"})
    state = client.state(dataset)
    assert state["state"] == "failed"
    assert hex_of(ROWS) in state["reason"]
    assert state["address"] is None
    told = json.loads(client.world.store.get(Bucket.INBOX, f"acme/{dataset}/polyshare.status.json"))
    assert told["state"] == "failed"
    assert client.call("GET", f"/dataset/{dataset}").problem == "conflict"
    client.drop(dataset, {"rows.csv": ROWS})
    assert client.state(dataset)["state"] == "failed"


@pytest.mark.parametrize(("announced", "files"), [(3, {"a": b"1234"}), (8, {"a": b"1234", "b": b"56789"})])
def test_more_bytes_than_were_announced_fail_the_dataset(
    client: Client, announced: int, files: dict[str, bytes]
) -> None:
    dataset = client.reserve(size_bytes=announced)
    client.drop(dataset, files)
    state = client.state(dataset)
    assert (state["state"], str(announced) in state["reason"]) == ("failed", True)


def test_the_hash_of_one_file_is_not_that_of_two(client: Client) -> None:
    dataset = client.reserve(hash=hex_of(ROWS), size_bytes=len(ROWS))
    client.drop(dataset, {"a": ROWS[:5], "b": ROWS[5:]})
    assert "2 files" in client.state(dataset)["reason"]


def test_a_digest_of_parts_is_enforced_too(client: Client) -> None:
    data = b"x" * (SMALLEST_PART + 1)
    good, bad = client.reserve(hash=str(digest_bytes(data))), client.reserve(hash="sha256-2:" + "0" * 64)
    client.drop(good, {"big": data})
    client.drop(bad, {"big": data})
    assert client.state(good)["state"] == "registered"
    assert client.state(bad)["state"] == "failed"


def test_an_id_that_is_reserved_for_another_organisation_or_for_nobody_takes_no_drop(client: Client) -> None:
    dataset = client.reserve(size_bytes=3)
    client.world.drop(f"other/{dataset}/", {"a": b"123"})
    client.world.settle(sweeps=2)
    assert client.state(dataset)["state"] == "uploading"
    told = json.loads(client.world.store.get(Bucket.INBOX, f"other/{dataset}/polyshare.status.json"))
    assert told["state"] == "refused"


def test_a_reservation_lapses(client: Client) -> None:
    dataset = client.reserve(size_bytes=3)
    client.world.clock.time += 31 * 86_400
    client.world.settle(sweeps=2)
    assert client.state(dataset)["state"] == "failed"
    client.drop(dataset, {"a": b"123"})
    assert client.state(dataset)["state"] == "failed"


def test_a_reservation_can_not_be_confirmed_as_it_is(client: Client) -> None:
    dataset = client.reserve()
    reply = client.http.call("register_dataset", "POST", f"/{dataset}/confirm")
    assert reply.problem == "conflict"
    assert client.state(dataset)["state"] == "uploading"


# --- models -------------------------------------------------------------------------------------------------------


def test_training_is_started_once_and_the_same_again_is_the_same(client: Client) -> None:
    model = client.model(client.dataset())
    first = client.call("POST", f"/train/{model}", {"params": {"trees": 3}})
    again = client.call("POST", f"/train/{model}", {"trees": 3})
    assert (first.status, again.status) == (202, 202)
    assert first.json["contract"] == again.json["contract"]
    assert client.call("POST", f"/train/{model}", {"trees": 4}).problem == "conflict"
    client.world.settle(sweeps=1)
    assert client.call("POST", f"/train/{model}", {"trees": 3}).json["state"] == "trained"


def test_a_model_may_be_made_before_its_dataset_is_there_and_trained_after(client: Client) -> None:
    dataset = client.reserve(size_bytes=len(ROWS))
    model = client.model(dataset)
    assert client.call("POST", f"/train/{model}", {}).problem == "conflict"
    client.drop(dataset, {"rows.csv": ROWS})
    assert client.call("POST", f"/train/{model}", {}).status == 202


def test_a_training_that_fails_says_why(client: Client) -> None:
    model = client.model(client.dataset())
    client.call("POST", f"/train/{model}", {"fail": "no memory"})
    client.world.settle(sweeps=1)
    reply = client.call("GET", f"/model/{model}")
    assert reply.problem == "conflict"
    assert "no memory" in reply.detail


def test_a_large_model_is_put_in_parts_and_comes_back(client: Client) -> None:
    data = bytes(range(256)) * (SMALLEST_PART // 256) + b"more than one part"
    model = client.unverified(hash=hex_of(data))
    assert client.put(model, data, name="../../evil/CON").status == 200
    assert client.call("GET", f"/model/{model}").body == data
    address = client.call("POST", "/contract/model_unverified", {"id": model}).json["address"]
    client.world.settle(sweeps=1)
    for hash in (hex_of(data), str(digest_bytes(data))):
        verified = client.call("POST", f"/contract/{address}/verify", query=f"res_hash={hash}").json
        assert verified["verified"], verified


def test_a_model_that_is_not_what_was_announced_is_refused_and_may_be_put_again(client: Client) -> None:
    model = client.unverified(hash=hex_of(b"weights"))
    refused = client.put(model, b"others")
    assert (refused.status, refused.problem) == (422, "mismatch")
    assert client.state(model)["state"] == "uploading"
    first, again = client.put(model, b"weights"), client.put(model, b"weights")
    assert (first.status, first.json["contract"]) == (200, again.json["contract"])
    assert client.put(model, b"others").problem == "conflict"


def test_a_model_that_the_platform_trains_takes_no_bytes(client: Client) -> None:
    model = client.model(client.dataset())
    assert client.put(model, b"weights").problem == "invalid"
    assert client.call("POST", f"/train/{client.unverified()}", {}).problem == "invalid"


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        (f"multipart/form-data; boundary={BOUNDARY}", form(b"x", field="other"), "invalid"),
        (f"multipart/form-data; boundary={BOUNDARY}", form(b""), "invalid"),
        (f"multipart/form-data; boundary={BOUNDARY}", b"--" + BOUNDARY.encode(), "invalid"),
        (f"multipart/form-data; boundary={BOUNDARY}", b"nothing like it", "invalid"),
        (
            f"multipart/form-data; boundary={BOUNDARY}",
            form(b"x").replace(f"--{BOUNDARY}--\r\n".encode(), b"") + form(b"y"),
            "invalid",
        ),
        ("multipart/form-data", form(b"x"), "invalid"),
        ("multipart/form-data; boundary=", form(b"x"), "invalid"),
        ("multipart/form-data; boundary=x; charset=nonsense", form(b"x"), "invalid"),
        ("application/octet-stream", b"x", "invalid"),
        ("application/json", b"{}", "invalid"),
    ],
)
def test_a_form_that_can_not_be_read_is_refused(client: Client, kind: str, body: bytes, problem: str) -> None:
    model = client.unverified()
    assert client.call("PUT", f"/model/{model}", body, content_type=kind).problem == problem
    assert client.state(model)["state"] == "uploading"


def test_a_form_that_says_it_is_too_large_is_not_read(client: Client) -> None:
    model = client.unverified()
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    reply = client.call("PUT", f"/model/{model}", form(b"x"), content_type=kind, content_length=str(6 * 1024**3))
    assert (reply.problem, reply.taken) == ("too-large", 0)


# --- contracts ----------------------------------------------------------------------------------------------------


def test_asking_for_a_contract_gives_the_one_that_registering_made(client: Client) -> None:
    dataset = client.dataset()
    first = client.call("POST", "/contract/dataset", {"dataset_id": dataset}).json
    assert first == client.call("POST", "/contract/dataset", {"id": dataset}).json
    assert first["anchored"]
    assert client.call("GET", f"/contract/dataset/{first['address']}").json["id"] == dataset
    assert client.call("GET", f"/contract/model/{first['address']}").problem == "not-found"
    assert client.call("POST", "/contract/model", {"id": dataset}).problem == "not-found"
    assert client.call("POST", "/contract/house", {"id": dataset}).problem == "not-found"
    assert client.call("POST", "/contract/dataset", {}).problem == "invalid"
    reserved = client.reserve()
    assert client.call("POST", "/contract/dataset", {"id": reserved}).problem == "conflict"


def test_verifying_compares_the_hash_and_asks_the_ledger(client: Client) -> None:
    dataset = client.dataset()
    address = client.call("POST", "/contract/dataset", {"id": dataset}).json["address"]
    good = client.call("POST", f"/contract/{address}/verify", query=f"res_hash={hex_of(ROWS)}&type=dataset").json
    assert (good["verified"], good["revoked"], good["id"]) == (True, False, dataset)
    assert {check["outcome"] for check in good["checks"]} == {"established"}
    bad = client.call("POST", f"/contract/{address}/verify", query=f"res_hash={hex_of(b'other')}").json
    assert not bad["verified"]
    for query in ("", "res_hash=abc", f"res_hash={hex_of(ROWS)}&type=house", "type=dataset"):
        assert client.call("POST", f"/contract/{address}/verify", query=query).status in (400, 404)
    assert client.call("POST", f"/contract/0x{'0' * 40}/verify", query=f"res_hash={'0' * 64}").problem == "not-found"


def test_what_is_not_anchored_yet_is_not_verified(client: Client) -> None:
    model = client.unverified()
    address = client.put(model, b"weights").json["contract"]
    told = client.call("POST", f"/contract/{address}/verify", query=f"res_hash={hex_of(b'weights')}").json
    assert not told["verified"]
    assert any("not anchored yet" in check["detail"] for check in told["checks"])


def test_metadata_of_its_registrant_s_own_making_proves_no_hash(client: Client) -> None:
    listed = [{"path": "a", "size": 1, "digest": str(digest_bytes(b"1"))}]
    body = {"organisation": "acme", "files": listed, "metadata": {"checked_hash": "sha256:" + "0" * 64}}
    assert client.http.call("register_dataset", "POST", "/", body).problem == "invalid"


# --- who may ------------------------------------------------------------------------------------------------------


def test_the_token_is_the_password_of_any_user(client: Client) -> None:
    token = client.http.token(ALICE)
    for given in (f"alice:{token}", f":{token}", f"somebody else:{token}"):
        header = "Basic " + base64.b64encode(given.encode()).decode()
        body = {"organization_id": "acme", "samples_dimension": 1}
        assert client.call("POST", "/dataset", body, caller=None, authorization=header).status == 201
    assert client.call("POST", "/dataset", body, caller=None, authorization=f"Bearer {token}").status == 201
    for header in ("Basic !", "Basic " + base64.b64encode(b"alice").decode(), "Basic YTpi", "Digest x", "Basic"):
        reply = client.call("POST", "/dataset", body, caller=None, authorization=header)
        assert (reply.status, reply.headers["www-authenticate"].split()[0]) == (401, "Basic")


def test_no_other_function_takes_basic(client: Client) -> None:
    header = "Basic " + base64.b64encode(f"alice:{client.http.token(ALICE)}".encode()).decode()
    reply = client.http.call("catalogue", "GET", "/", caller=None, headers={"authorization": header})
    assert (reply.status, reply.headers["www-authenticate"].split()[0]) == (401, "Bearer")


def test_others_neither_see_nor_fill_what_is_reserved_or_registered(client: Client) -> None:
    dataset, reserved, brought = client.dataset(), client.model(client.dataset()), client.unverified()
    address = client.call("POST", "/contract/dataset", {"id": dataset}).json["address"]
    for path in (f"/dataset/{dataset}", f"/model/{reserved}", f"/model/{reserved}/metadata"):
        assert client.call("GET", path, caller=CAROL).problem == "not-found"
        assert client.call("GET", path, caller=None).problem == "not-found"
    assert client.call("POST", f"/train/{reserved}", {}, caller=BOB).problem == "not-found"
    assert client.put(brought, b"x", caller=BOB).problem == "not-found"
    assert client.call("GET", f"/contract/dataset/{address}", caller=CAROL).problem == "not-found"
    query = f"res_hash={hex_of(ROWS)}"
    assert client.call("POST", f"/contract/{address}/verify", caller=CAROL, query=query).problem == "not-found"
    body = {"organization_id": "acme", "samples_dimension": 1}
    assert client.call("POST", "/dataset", body, caller=READER).problem == "forbidden"
    assert client.call("POST", "/dataset", body, caller=Caller("x", {"other": Role.ADMIN})).problem == "forbidden"
    assert client.call("POST", "/dataset", body, caller=None).problem == "unauthenticated"


def test_reads_of_bytes_are_in_the_audit_log(client: Client) -> None:
    from polyshare.catalogue.tables import audit

    dataset = client.dataset()
    client.call("GET", f"/dataset/{dataset}", caller=READER)
    assert [(r.subject, r.action) for r in client.world.rows(audit.select()) if r.asset == dataset] == [
        ("rita", "read")
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"organization_id": "acme"},
        {"organization_id": "ACME!", "samples_dimension": 1},
        {"organization_id": "acme", "samples_dimension": 1, "size_bytes": 0},
        {"organization_id": "acme", "samples_dimension": 1, "size_bytes": -1},
        {"organization_id": "acme", "samples_dimension": 1, "hash": "md5:00"},
        {"organization_id": "acme", "samples_dimension": 1, "hash": "0" * 63},
        {"organization_id": "acme", "samples_dimension": 1, "unknown": 1},
        {"organization_id": ["acme"], "samples_dimension": 1},
        [],
        b"{",
    ],
)
def test_a_body_that_can_not_be_taken_is_refused(client: Client, body: Any) -> None:
    assert client.call("POST", "/dataset", body).problem == "invalid"


def test_a_store_that_is_down_is_told_before_any_byte_is_sent(client: Client) -> None:
    from polyshare.errors import Unavailable

    dataset = client.dataset()
    store = client.world.store

    class Down:
        def __getattr__(self, name: str) -> Any:
            if name == "get_range":
                raise Unavailable("the object store does not answer")
            return getattr(store, name)

    client.http.use(store=Down)
    reply = client.call("GET", f"/dataset/{dataset}")
    assert (reply.status, reply.problem) == (503, "unavailable")
    head = client.call("HEAD", f"/dataset/{dataset}")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(ROWS)), b"")


@pytest.mark.parametrize(
    "name", sorted({Path(p).stem for p in Path(openapi.__file__).parents[2].glob("functions/mlaas/requests/*.json")})
)
def test_the_example_is_answered_as_it_says(client: Client, name: str) -> None:
    asked = openapi.example("mlaas", name)
    dataset = client.dataset()
    ids = {"dataset": dataset, "put": client.unverified(), "train": client.model(dataset), "model": client.unverified()}
    address = client.call("POST", "/contract/dataset", {"id": dataset}).json["address"]
    client.put(ids["model"], b"weights")
    values: dict[str, str] = dict(asked.get("path", {}))
    body: Any = asked.get("body")
    if "id" in values:
        values["id"] = {"dataset_bytes": dataset, "put": ids["put"], "train": ids["train"]}.get(name, ids["model"])
    if "address" in values:
        values["address"] = address
    if name == "model":
        body["data_params"]["dataset_id"] = dataset
    if name == "find_contract":
        body["dataset_id"] = dataset
    path, method, found = next(
        (path, method, found)
        for path, item in DOCUMENT["paths"].items()
        for method, found in item.items()
        if found["operationId"] == f"mlaas.{name}"
    )
    caller = {"publisher": ALICE, "reader": READER}[asked["caller"]]
    if "form" in asked:
        reply = client.put(values["id"], asked["form"]["model"].encode())
    else:
        query = "&".join(f"{k}={v}" for k, v in asked.get("query", {}).items())
        asked_path = path_of(path.removeprefix("/mlaas"), values)
        reply = client.call(method.upper(), asked_path, body, caller=caller, query=query)
    assert reply.status == asked["status"], reply
    content = found["responses"][str(reply.status)]["content"]
    kind = reply.headers["content-type"]
    assert kind in content
    if kind == "application/json":
        schema = {**content[kind]["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(reply.json)


def test_the_types_of_contracts_are_the_original_ones() -> None:
    assert set(mlaas.Type.__args__) == {"model", "model_unverified", "dataset"}  # type: ignore[attr-defined]
