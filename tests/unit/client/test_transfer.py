"""One part over a line on which things go wrong."""

from __future__ import annotations

import base64
import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from polyshare.errors import Mismatch, Unavailable
from polyshare.hashing import SMALLEST_PART, digest_bytes, part_range
from polyshare.transfer import Expired, download, put_part
from polyshare.wire import Connections

DATA = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def connections() -> Connections:
    return Connections(idle=1.0, pause=0.01)


def checksum(data: bytes) -> dict[str, str]:
    return {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(data).digest()).decode()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def test_a_part_is_sent_byte_for_byte(store: Any, connections: Connections, tmp_path: Path) -> None:
    data = bytes(range(251)) * (SMALLEST_PART // 200)
    path = tmp_path / "large"
    path.write_bytes(data)
    moved: list[int] = []
    for part in (1, 2):
        start, length = part_range(len(data), part)
        piece = data[start : start + length]
        put_part(connections, f"{store.url}/x{part}", checksum(piece), path, len(data), part, moved.append)
    assert store.objects["/x1"] + store.objects["/x2"] == data
    assert sum(moved) == len(data)


def test_a_transfer_that_is_cut_off_is_made_again_and_counted_once(
    store: Any, connections: Connections, file: Path, mishap: dict[str, Any]
) -> None:
    store.mishaps += [mishap["hang_up"], mishap["status"](503), mishap["status"](500)]
    moved: list[int] = []
    put_part(connections, store.url + "/x", checksum(DATA), file, len(DATA), 1, moved.append)
    assert store.objects["/x"] == DATA
    assert sum(moved) == len(DATA)


def test_a_kept_connection_that_the_store_closed_is_opened_anew(
    store: Any, connections: Connections, file: Path, mishap: dict[str, Any]
) -> None:
    put_part(connections, store.url + "/x", checksum(DATA), file, len(DATA), 1)
    store.mishaps.append(mishap["hang_up"])
    put_part(connections, store.url + "/y", checksum(DATA), file, len(DATA), 1)
    assert store.objects["/y"] == DATA


def test_a_file_that_changed_since_it_was_hashed_is_refused(store: Any, connections: Connections, file: Path) -> None:
    with pytest.raises(Mismatch, match="did it change"):
        put_part(connections, store.url + "/x", checksum(b"before"), file, len(DATA), 1)
    file.write_bytes(DATA[:1000])
    with pytest.raises(Mismatch, match="became shorter"):
        put_part(connections, store.url + "/x", checksum(DATA), file, len(DATA), 1)


def test_an_expired_url_is_told_apart(store: Any, connections: Connections, file: Path, mishap: dict[str, Any]) -> None:
    store.mishaps.append(mishap["status"](403))
    with pytest.raises(Expired):
        put_part(connections, store.url + "/x", checksum(DATA), file, len(DATA), 1)


def test_a_store_that_never_answers_is_given_up(store: Any, file: Path, mishap: dict[str, Any]) -> None:
    connections = Connections(idle=0.2, pause=0.01)
    store.mishaps += [lambda handler, body: time.sleep(0.6)] * 20
    with pytest.raises(Unavailable, match="failed 5 times"):
        put_part(connections, store.url + "/x", checksum(DATA), file, len(DATA), 1)


def test_a_download_verifies_and_survives_truncation(
    store: Any, connections: Connections, tmp_path: Path, mishap: dict[str, Any]
) -> None:
    data = DATA * 17
    digest = digest_bytes(data)
    parts = [hashlib.sha256(data[s : s + n]).digest() for s, n in (part_range(len(data), p) for p in (1, 2))]
    store.objects["/x"] = data

    def truncate(handler: Any, body: bytes) -> None:
        handler.send_response(206)
        handler.send_header("content-length", str(SMALLEST_PART))
        handler.end_headers()
        handler.wfile.write(data[:70_000])
        handler.close_connection = True

    store.mishaps.append(truncate)
    moved: list[int] = []
    target = tmp_path / "got"
    download(store.url + "/x", target, digest, parts, connections=connections, on_bytes=moved.append)
    assert target.read_bytes() == data
    assert sum(moved) == len(data)


@pytest.mark.parametrize("wrong", [DATA[:-1] + b"!", DATA + b"more", DATA[:-1], b""])
def test_wrong_bytes_are_refused_and_removed(
    store: Any, connections: Connections, tmp_path: Path, wrong: bytes
) -> None:
    store.objects["/x"] = wrong
    with pytest.raises((Mismatch, Unavailable)):
        download(store.url + "/x", tmp_path / "got", digest_bytes(DATA), connections=connections)
    assert not (tmp_path / "got").exists()


def test_part_digests_that_are_not_the_files_are_refused_before_anything_is_asked(
    store: Any, connections: Connections, tmp_path: Path
) -> None:
    digest = digest_bytes(DATA * 17)
    with pytest.raises(Mismatch):
        download(store.url + "/x", tmp_path / "got", digest, [bytes(32)] * 2, connections=connections)
    assert store.requests == []


def test_a_range_that_the_store_ignores_is_not_taken_for_the_part(
    store: Any, connections: Connections, tmp_path: Path, mishap: dict[str, Any]
) -> None:
    data = DATA * 17
    parts = [hashlib.sha256(data[s : s + n]).digest() for s, n in (part_range(len(data), p) for p in (1, 2))]
    store.mishaps += [lambda handler, body: mishap["reply"](handler, 200, data)] * 10
    with pytest.raises(Unavailable, match="range"):
        download(store.url + "/x", tmp_path / "got", digest_bytes(data), parts, connections=connections)
