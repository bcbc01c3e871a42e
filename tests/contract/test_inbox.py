"""One suite for every inbox: of a store in memory, on SeaweedFS, and of Azure and Google Cloud by obstore.

Azure is Azurite, which `make test-inboxes` brings; Google a stand-in of our own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import sqlalchemy as sa

from polyshare.catalogue.tables import assets
from polyshare.errors import Invalid, Misconfigured, NotFound, Unavailable
from polyshare.jobs.fake import FakeRunner
from polyshare.ports import Bucket, Inbox, Signed
from polyshare.store.inbox import CloudInbox, StoreInbox
from polyshare.store.memory import MemoryStore
from tests.contract import azure_blobs, google_storage
from tests.contract.azure_blobs import Azure
from tests.contract.google_storage import Google
from tests.contract.test_store import over_http, seaweedfs, seaweedfs_store  # noqa: F401
from tests.world import Line, World

Read = Callable[[Signed], tuple[int, bytes]]
Drop = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Server:
    """An inbox, how a signed request is made, and how somebody else puts an object, whatever its key."""

    inbox: Inbox
    read: Read
    drop: Drop


@pytest.fixture(scope="session")
def azure() -> Iterator[Azure]:
    pytest.importorskip("obstore")
    with azure_blobs.azure() as running:
        if running is None:
            pytest.skip("Azurite is not here: make test-inboxes")
        yield running


@pytest.fixture(scope="session")
def google() -> Iterator[Google]:
    pytest.importorskip("obstore")
    with google_storage.google() as running:
        yield running


@pytest.fixture(params=["memory", "seaweedfs", "azure", "google"])
def server(request: pytest.FixtureRequest) -> Server:
    if request.param == "memory":
        store = MemoryStore()
        return Server(StoreInbox(store), lambda signed: store.make("GET", signed, b""), store_drop(store))
    if request.param == "seaweedfs":
        layout, ports, _ = request.getfixturevalue("seaweedfs")
        real = seaweedfs_store(layout, ports)
        for item in list(real.list(Bucket.INBOX)):
            real.delete(Bucket.INBOX, [item.key])
        return Server(StoreInbox(real), lambda signed: over_http("GET", signed), store_drop(real))
    name = f"inbox-{uuid4().hex[:8]}"
    if request.param == "azure":
        azure: Azure = request.getfixturevalue("azure")
        azure.container(name)
        return Server(azure.inbox(name), lambda s: over_http("GET", s), lambda k, d: azure.put(name, k, d))
    google: Google = request.getfixturevalue("google")
    return Server(google.inbox(name), lambda s: over_http("GET", s), lambda k, d: google.put(name, k, d))


def store_drop(store: Any) -> Drop:
    return lambda key, data: store.put(Bucket.INBOX, key, data)


def test_what_is_dropped_is_listed_folder_by_folder(server: Server) -> None:
    keys = ["acme/a-b/x", "acme/a/deep/y", "acme/a/x", "acme/ü z#%41/x", "b/c/d"]
    for key in (*keys, "acme/loose"):
        server.drop(key, key.encode())
    listed = list(server.inbox.list())
    found = [item.key for item in listed if item.key != "acme/loose"]
    assert sorted(found) == sorted(keys)
    folders = ["/".join(key.split("/")[:2]) for key in found]
    assert len(set(folders)) == sum(here != before for here, before in zip(folders, ["", *folders], strict=False))
    assert [item.key for item in server.inbox.list("acme/a/")] == ["acme/a/deep/y", "acme/a/x"]
    assert list(server.inbox.list("none/none/")) == []
    item = next(item for item in listed if item.key == "acme/a/x")
    assert item.size == len("acme/a/x")
    assert abs(item.modified - time.time()) < 60
    assert item.etag
    assert '"' not in item.etag


def test_an_object_is_read_and_a_status_is_written_over_another(server: Server) -> None:
    server.drop("acme/a/dataset.json", b"{}")
    assert server.inbox.get("acme/a/dataset.json") == b"{}"
    for text in (b"1", b"2"):
        server.inbox.put("acme/a/polyshare.status.json", text)
    assert server.inbox.get("acme/a/polyshare.status.json") == b"2"
    for absent in ("acme/a/none", "acme/none"):
        with pytest.raises(NotFound, match=absent):
            server.inbox.get(absent)


def test_a_signed_request_reads_the_version_that_was_listed_and_nothing_else(server: Server) -> None:
    server.drop("acme/a/x", b"first")
    server.drop("acme/a/y", b"other")
    etag = next(item.etag for item in server.inbox.list("acme/a/") if item.key == "acme/a/x")
    signed = server.inbox.sign_get("acme/a/x", seconds=60, if_match=etag)
    assert server.read(signed) == (200, b"first")
    assert server.read(replace(signed, url=signed.url.replace("acme/a/x", "acme/a/y")))[0] == 403
    server.drop("acme/a/x", b"second")
    assert server.read(signed)[0] == 412


class Reader(Line):
    """Reads what the inbox signed over HTTP."""

    reading: Read

    def get(self, url: str, headers: Mapping[str, str]) -> bytes | None:
        status, data = self.reading(Signed(url, headers))
        return data if status == 200 else None


def test_a_drop_becomes_a_dataset_which_is_told_beside_it(server: Server) -> None:
    world = World(seed="inbox")
    world.ports = replace(world.ports, inbox_elsewhere=lambda: server.inbox)
    reader = Reader(lambda: world.ports, world.store)
    reader.reading = server.read
    world.runner = FakeRunner(reader, world.clock.now)
    world.ports = replace(world.ports, runner=lambda: world.runner)
    server.drop("acme/iris/train/a.csv", b"1")
    server.drop("acme/iris/notes.txt", b"2")
    time.sleep(1.1)  # the marker comes last, also by a clock of whole seconds
    server.drop("acme/iris/dataset.json", b'{"visibility": "public"}')
    world.settle(sweeps=3)
    rows = world.rows(sa.select(assets).where(assets.c.owner == "inbox:acme"))
    assert [(row.state, row.name, row.visibility) for row in rows] == [("registered", "iris", "public")]
    assert msgspec.json.decode(server.inbox.get("acme/iris/polyshare.status.json"))["state"] == "registered"
    assert len(list(world.store.list(Bucket.BLOBS))) == 2


def test_a_crooked_key_hides_no_other_folder(azure: Azure, caplog: pytest.LogCaptureFixture) -> None:
    name = f"inbox-{uuid4().hex[:8]}"
    azure.container(name)
    for key in ("acme/a/x", "evil/a/1", "evil/b/1", "evil/b//2", "evil/b/3", "evil/c/1", "worse//x", "zoo/a/x"):
        azure.put(name, key, b"1")
    assert [item.key for item in azure.inbox(name).list()] == ["acme/a/x", "evil/a/1", "evil/c/1", "zoo/a/x"]
    assert "evil/b/" in caplog.text
    assert "worse/" in caplog.text


def test_azure_urls_are_not_made_for_keys_that_they_can_not_say(azure: Azure) -> None:
    inbox = azure.inbox("any")
    assert inbox.sign_get("acme/a/x-1_2+3.csv", seconds=60).url
    with pytest.raises(Invalid, match="no spaces"):
        inbox.sign_get("acme/a/one two", seconds=60)


def test_what_keeps_an_inbox_from_us_is_named_without_any_key(azure: Azure) -> None:
    name = f"inbox-{uuid4().hex[:8]}"
    azure.container(name)
    other_key = "AAAA" * 21 + "AA=="
    for inbox, said in (
        (azure.inbox(f"{name}-none"), "answers 404"),
        (azure.inbox(name, account_key=other_key), "answers 403"),
    ):
        with pytest.raises(Misconfigured, match=said) as told:
            list(inbox.list())
        assert other_key not in str(told.value)
    with pytest.raises(Misconfigured):
        azure.inbox(f"{name}-none").put("acme/a/x", b"")
    with pytest.raises(Misconfigured):
        azure.inbox(name, account_key=other_key).get("acme/a/x")
    with pytest.raises(Unavailable, match="does not answer"):
        list(azure.inbox(name, endpoint="http://127.0.0.1:9/x").list())


@pytest.mark.parametrize("url", ["s3://bucket", "gs://", "gs://bucket/path", "bucket", "http://127.0.0.1/x"])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="POLYSHARE_INBOX_URL"):
        CloudInbox(url)
