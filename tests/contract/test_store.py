"""One suite for every store: in memory, on SeaweedFS, and on moto for the shape of the API only."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from polyshare.errors import Mismatch, NotFound, Unavailable
from polyshare.ports import Bucket, Put, Signed, Store
from polyshare.stack import weed
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout
from polyshare.stack.listening import inner_ports
from polyshare.stack.processes import Supervisor
from polyshare.store.keys import Given
from polyshare.store.memory import MemoryStore
from polyshare.store.s3 import S3Store

BIG = 5 * 1024 * 1024  # the smallest part that S3 takes before the last
Make = Callable[[str, Signed, bytes], tuple[int, bytes]]


@dataclass(frozen=True)
class Server:
    """A store, how to make presigned requests to it, and what it can do."""

    store: Store
    make: Make
    checks_bytes: bool = True
    checks_signatures: bool = True

    def check_sha256(self, given: str | None, wanted: str) -> None:
        assert given == wanted or (not self.checks_bytes and given is None)


def over_http(method: str, signed: Signed, body: bytes = b"") -> tuple[int, bytes]:
    data = body if method == "PUT" else None
    request = urllib.request.Request(signed.url, data=data, headers=dict(signed.headers), method=method)
    if data is not None:
        request.add_header("Content-Type", "")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Layout, dict[str, int], Supervisor]]:
    layout = Layout(tmp_path_factory.mktemp("seaweedfs"))
    layout.make()
    keyring = Keyring(layout)
    keyring.make()
    ports = inner_ports(layout, weed.PORTS)
    supervisor = Supervisor(layout.log)
    try:
        supervisor.start(weed.service(layout, keyring, ports, "http://127.0.0.1:9/{function}"))
        yield layout, ports, supervisor
    finally:
        supervisor.stop_all()
        weed.remove_sockets(ports)


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Store]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        store = s3_store(f"http://127.0.0.1:{server.get_host_and_port()[1]}", "testing", "testing")
        store.create_buckets()
        yield store
    finally:
        server.stop()


@pytest.fixture(params=["memory", "seaweedfs", "moto"])
def server(request: pytest.FixtureRequest) -> Server:
    if request.param == "memory":
        store = MemoryStore()
        return Server(store, store.make)
    if request.param == "seaweedfs":
        layout, ports, _ = request.getfixturevalue("seaweedfs")
        return Server(seaweedfs_store(layout, ports), over_http)
    return Server(request.getfixturevalue("moto"), over_http, checks_bytes=False, checks_signatures=False)


def s3_store(endpoint: str, access_key: str, secret_key: str) -> S3Store:
    buckets = {Bucket(name): bucket for name, bucket in weed.BUCKETS.items()}
    return S3Store(endpoint=endpoint, region="us-east-1", keys=Given(access_key, secret_key), buckets=buckets)


def seaweedfs_store(layout: Layout, ports: dict[str, int]) -> S3Store:
    keyring = Keyring(layout)
    store = s3_store(weed.endpoint(ports), keyring.read("s3_access_key"), keyring.read("s3_secret_key"))
    store.create_buckets()
    return store


@pytest.fixture
def folder() -> str:
    """A prefix of the test's own, in buckets that live on."""
    return f"{os.urandom(6).hex()}/"


def test_what_was_put_is_got(server: Server, folder: str) -> None:
    for data in (b"", b"x", bytes(range(256)) * 1000):
        assert server.store.put(Bucket.BLOBS, f"{folder}a b/ü+%~.bin", data)
        assert server.store.get(Bucket.BLOBS, f"{folder}a b/ü+%~.bin") == data


def test_a_head_has_size_and_sha256(server: Server, folder: str) -> None:
    server.store.put(Bucket.BLOBS, f"{folder}x", b"some bytes")
    head = server.store.head(Bucket.BLOBS, f"{folder}x")
    assert head is not None
    assert head.size == 10
    server.check_sha256(head.sha256, base64(hashlib.sha256(b"some bytes").digest()))
    assert head.etag
    assert '"' not in head.etag


def test_what_is_not_there_is_said_so(server: Server, folder: str) -> None:
    assert server.store.head(Bucket.BLOBS, f"{folder}none") is None
    with pytest.raises(NotFound, match="none"):
        server.store.get(Bucket.BLOBS, f"{folder}none")
    server.store.delete(Bucket.BLOBS, [f"{folder}none"])
    server.store.delete(Bucket.BLOBS, [])


def test_buckets_are_apart(server: Server, folder: str) -> None:
    server.store.put(Bucket.BLOBS, f"{folder}x", b"x")
    assert server.store.head(Bucket.JOURNAL, f"{folder}x") is None
    assert server.store.head(Bucket.INBOX, f"{folder}x") is None


def test_put_if_absent_never_replaces(server: Server, folder: str) -> None:
    assert server.store.put(Bucket.JOURNAL, f"{folder}x", b"first", if_absent=True)
    assert not server.store.put(Bucket.JOURNAL, f"{folder}x", b"second", if_absent=True)
    assert server.store.get(Bucket.JOURNAL, f"{folder}x") == b"first"
    assert server.store.put(Bucket.JOURNAL, f"{folder}x", b"third")
    assert server.store.get(Bucket.JOURNAL, f"{folder}x") == b"third"


def test_a_few_objects_are_put_at_once(server: Server, folder: str) -> None:
    server.store.put(Bucket.JOURNAL, f"{folder}kept", b"first")
    puts = [Put(Bucket.JOURNAL, f"{folder}kept", b"second", if_absent=True)]
    puts += [Put(Bucket.BLOBS, f"{folder}{n}", b"%d" % n) for n in range(3)]
    server.store.put_all(puts)
    assert server.store.get(Bucket.JOURNAL, f"{folder}kept") == b"first"
    assert [server.store.get(Bucket.BLOBS, f"{folder}{n}") for n in range(3)] == [b"0", b"1", b"2"]
    server.store.put_all([])


def test_a_list_has_every_object_once_in_order(server: Server, folder: str) -> None:
    keys = [f"{folder}{n:04d}" for n in range(25)] + [f"{folder}ä/{n}" for n in range(3)]
    for key in reversed(keys):
        server.store.put(Bucket.BLOBS, key, key.encode())
    found = list(server.store.list(Bucket.BLOBS, folder))
    assert [item.key for item in found] == keys
    assert [item.size for item in found] == [len(key.encode()) for key in keys]
    assert all(item.modified > 1.7e9 for item in found)
    assert found[0].etag == server.store.head(Bucket.BLOBS, keys[0]).etag  # type: ignore[union-attr]
    assert [item.key for item in server.store.list(Bucket.BLOBS, folder, after=keys[9])] == keys[10:]
    assert [item.key for item in server.store.list(Bucket.BLOBS, f"{folder}001")] == keys[10:20]
    assert list(server.store.list(Bucket.BLOBS, f"{folder}9")) == []


def test_a_list_loses_nothing_where_a_key_is_also_a_folder(server: Server, folder: str) -> None:
    keys = {f"{folder}{name}" for name in ("a", "a-b", "a/b", "a/b/c", "a/b/d", "a/b-c", "a.b", "b", "z/1", "z-")}
    for key in keys:
        server.store.put(Bucket.INBOX, key, b"x")
    whole = [item.key for item in server.store.list(Bucket.INBOX, folder)]
    assert len(whole) == len(keys)
    assert set(whole) == keys
    for place, key in enumerate(whole):
        assert [item.key for item in server.store.list(Bucket.INBOX, folder, after=key)] == whole[place + 1 :], key
    below = [item.key for item in server.store.list(Bucket.INBOX, f"{folder}a/")]
    assert set(below) == {key for key in keys if key.startswith(f"{folder}a/")}


def test_deleted_objects_are_gone(server: Server, folder: str) -> None:
    keys = [f"{folder}{n}" for n in range(5)]
    for key in keys:
        server.store.put(Bucket.BLOBS, key, b"x")
    server.store.delete(Bucket.BLOBS, keys[:4])
    assert [item.key for item in server.store.list(Bucket.BLOBS, folder)] == keys[4:]


def test_a_signed_put_takes_these_bytes_only(server: Server, folder: str) -> None:
    data = b"the right bytes"
    signed = server.store.sign_put(Bucket.BLOBS, f"{folder}p q/ü", sha256=hashlib.sha256(data).digest(), seconds=60)
    if server.checks_bytes:
        assert server.make("PUT", signed, b"other bytes!!!!")[0] == 400
        assert server.store.head(Bucket.BLOBS, f"{folder}p q/ü") is None
    assert server.make("PUT", signed, data)[0] == 200
    assert server.make("PUT", signed, data)[0] == 200
    head = server.store.head(Bucket.BLOBS, f"{folder}p q/ü")
    assert head is not None
    assert head.size == len(data)
    server.check_sha256(head.sha256, base64(hashlib.sha256(data).digest()))


def test_a_signed_request_is_for_one_method_object_and_header(server: Server, folder: str) -> None:
    if not server.checks_signatures:
        pytest.skip("moto checks no signatures")
    data = b"mine"
    key = f"{folder}mine"
    signed = server.store.sign_put(Bucket.BLOBS, key, sha256=hashlib.sha256(data).digest(), seconds=60)
    evil = base64(hashlib.sha256(b"evil").digest())
    assert server.make("PUT", Signed(signed.url, {"x-amz-checksum-sha256": evil}), b"evil")[0] == 403
    assert server.make("PUT", Signed(signed.url, {}), b"evil")[0] == 403
    assert server.make("PUT", Signed(signed.url.replace("mine?", "yours?"), signed.headers), data)[0] == 403
    assert server.make("GET", signed, b"")[0] == 403
    assert server.store.head(Bucket.BLOBS, key) is None
    server.store.put(Bucket.BLOBS, key, data)
    got = server.store.sign_get(Bucket.BLOBS, key, seconds=60)
    assert server.make("GET", got, b"") == (200, data)
    assert server.make("PUT", got, data)[0] == 403


def test_a_signed_request_expires(server: Server, folder: str) -> None:
    if not server.checks_signatures:
        pytest.skip("moto checks no signatures")
    server.store.put(Bucket.BLOBS, f"{folder}x", b"x")
    signed = server.store.sign_get(Bucket.BLOBS, f"{folder}x", seconds=1)
    time.sleep(2.1)
    assert server.make("GET", signed, b"")[0] == 403


def test_a_signed_get_can_be_pinned_to_an_etag(server: Server, folder: str) -> None:
    server.store.put(Bucket.INBOX, f"{folder}x", b"first")
    head = server.store.head(Bucket.INBOX, f"{folder}x")
    assert head is not None
    signed = server.store.sign_get(Bucket.INBOX, f"{folder}x", seconds=60, if_match=head.etag)
    assert server.make("GET", signed, b"") == (200, b"first")
    server.store.put(Bucket.INBOX, f"{folder}x", b"second")
    assert server.make("GET", signed, b"")[0] == 412


def test_a_signed_get_of_nothing_is_404(server: Server, folder: str) -> None:
    assert server.make("GET", server.store.sign_get(Bucket.BLOBS, f"{folder}x", seconds=60), b"")[0] == 404


def upload(server: Server, key: str, parts: list[bytes]) -> tuple[str, list[bytes]]:
    digests = [hashlib.sha256(part).digest() for part in parts]
    name = server.store.start_multipart(Bucket.BLOBS, key)
    for number, (part, digest) in enumerate(zip(parts, digests, strict=True), 1):
        signed = server.store.sign_part(Bucket.BLOBS, key, name, number, sha256=digest, seconds=60)
        assert server.make("PUT", signed, part)[0] == 200
    return name, digests


def test_parts_become_one_object_with_a_composite_digest(server: Server, folder: str) -> None:
    if not server.checks_bytes:
        pytest.skip("moto gives a checksum of its own for several parts")
    parts = [b"a" * BIG, b"b" * BIG, b"tail"]
    name, digests = upload(server, f"{folder}big", parts)
    assert server.store.list_parts(Bucket.BLOBS, f"{folder}big", name) == {1: BIG, 2: BIG, 3: 4}
    assert server.store.head(Bucket.BLOBS, f"{folder}big") is None
    server.store.complete_multipart(Bucket.BLOBS, f"{folder}big", name, digests)
    head = server.store.head(Bucket.BLOBS, f"{folder}big")
    assert head is not None
    assert head.size == 2 * BIG + 4
    server.check_sha256(head.sha256, f"{base64(hashlib.sha256(b''.join(digests)).digest())}-3")
    assert server.store.get(Bucket.BLOBS, f"{folder}big") == b"".join(parts)


def test_completing_again_is_fine_and_the_upload_is_over(server: Server, folder: str) -> None:
    if not server.checks_bytes:
        pytest.skip("moto gives a checksum of its own for several parts")
    name, digests = upload(server, f"{folder}big", [b"a" * BIG, b"tail"])
    server.store.complete_multipart(Bucket.BLOBS, f"{folder}big", name, digests)
    server.store.complete_multipart(Bucket.BLOBS, f"{folder}big", name, digests)
    with pytest.raises(NotFound, match="over"):
        server.store.list_parts(Bucket.BLOBS, f"{folder}big", name)


def test_a_wrong_part_is_refused_and_can_be_sent_again(server: Server, folder: str) -> None:
    key = f"{folder}big"
    right, wrong = b"a" * BIG, b"b" * BIG
    name = server.store.start_multipart(Bucket.BLOBS, key)
    signed = server.store.sign_part(Bucket.BLOBS, key, name, 1, sha256=hashlib.sha256(right).digest(), seconds=60)
    if server.checks_bytes:
        assert server.make("PUT", signed, wrong)[0] == 400
        assert server.store.list_parts(Bucket.BLOBS, key, name) == {}
    assert server.make("PUT", signed, right)[0] == 200
    assert server.store.list_parts(Bucket.BLOBS, key, name) == {1: BIG}


def test_completing_with_other_digests_makes_no_object(server: Server, folder: str) -> None:
    if not server.checks_bytes:
        pytest.skip("moto checks no checksums")
    key = f"{folder}big"
    name, digests = upload(server, key, [b"a" * BIG, b"tail"])
    with pytest.raises(Mismatch):
        server.store.complete_multipart(Bucket.BLOBS, key, name, [digests[1], digests[0]])
    assert server.store.head(Bucket.BLOBS, key) is None


def test_completing_without_a_part_names_it(server: Server, folder: str) -> None:
    key = f"{folder}big"
    name, digests = upload(server, key, [b"a" * BIG])
    with pytest.raises(Mismatch, match="part 2"):
        server.store.complete_multipart(Bucket.BLOBS, key, name, [*digests, hashlib.sha256(b"tail").digest()])
    assert server.store.head(Bucket.BLOBS, key) is None


def test_an_upload_given_up_leaves_nothing(server: Server, folder: str) -> None:
    key = f"{folder}big"
    name, digests = upload(server, key, [b"a" * BIG])
    server.store.abort_multipart(Bucket.BLOBS, key, name)
    server.store.abort_multipart(Bucket.BLOBS, key, name)
    with pytest.raises(NotFound):
        server.store.complete_multipart(Bucket.BLOBS, key, name, digests)
    assert list(server.store.list(Bucket.BLOBS, folder)) == []


def test_all_versions_are_deleted(moto: S3Store, folder: str) -> None:
    check_versions_are_deleted(moto, folder)


def test_all_versions_are_deleted_on_seaweedfs(
    seaweedfs: tuple[Layout, dict[str, int], Supervisor], folder: str
) -> None:
    check_versions_are_deleted(seaweedfs_store(seaweedfs[0], seaweedfs[1]), folder)


def check_versions_are_deleted(store: S3Store, folder: str) -> None:
    buckets = {Bucket.BLOBS: "versioned"}
    versioned = S3Store(endpoint=store._endpoint, region="us-east-1", keys=store._keys, buckets=buckets)
    versioned.create_buckets()
    client = versioned._client()
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    for data in (b"1", b"2"):
        versioned.put(Bucket.BLOBS, f"{folder}x", data)
        versioned.put(Bucket.BLOBS, f"{folder}xy", data)
    client.delete_object(Bucket="versioned", Key=f"{folder}x")
    versioned.delete(Bucket.BLOBS, [f"{folder}x"])
    left = client.list_object_versions(Bucket="versioned", Prefix=f"{folder}x")
    assert {version["Key"] for version in left["Versions"]} == {f"{folder}xy"}
    assert not left.get("DeleteMarkers")


def test_a_store_that_does_not_answer_is_unavailable() -> None:
    store = s3_store("http://127.0.0.1:9", "testing", "testing")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        store.head(Bucket.BLOBS, "x")


def test_keys_are_not_in_what_is_printed() -> None:
    store = s3_store("http://127.0.0.1:9", "testing-access", "testing-secret")
    assert "testing" not in repr(store)
    assert "testing" not in repr(vars(store)["_signer"])


def base64(data: bytes) -> str:
    return b64encode(data).decode()
