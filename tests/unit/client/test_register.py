"""Registering files: only what is missing is sent, and what was interrupted goes on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from polyshare import errors, tracing
from polyshare.client import Client
from polyshare.client.folder import hash_sources, scan, split
from polyshare.client.progress import Silent
from polyshare.hashing import SMALLEST_PART


class Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.moved = 0

    def begin(self, what: str, total: int) -> None:
        self.moved = 0

    def advance(self, count: int) -> None:
        self.moved += count

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "digits"
    for name, data in {"train/a.csv": b"1,2\n", "train/b.csv": b"3,4\n", "test/c.csv": b"", ".git/x": b"x"}.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(data)
    (made / "large.bin").write_bytes(os.urandom(SMALLEST_PART + 5))
    return made


def test_all_files_arrive_and_hidden_ones_are_named(store: Any, client: Client, folder: Path) -> None:
    told = Told()
    registered = client.add_dataset(folder, progress=told)
    there = {key.removeprefix(f"/{registered.id}/"): data for key, data in store.objects.items()}
    assert sorted(there) == ["large.bin.1", "large.bin.2", "test/c.csv.1", "train/a.csv.1", "train/b.csv.1"]
    assert there["large.bin.1"] + there["large.bin.2"] == (folder / "large.bin").read_bytes()
    assert told.notes == ["left out 1 hidden file: .git"]
    assert told.moved == SMALLEST_PART + 13


def test_small_files_come_with_the_declaration(
    store: Any, registry: Any, client: Client, folder: Path, mishap: dict[str, Any]
) -> None:
    (folder / "large.bin").unlink()
    store.mishaps += [mishap["status"](500)] * 9
    registered = client.add_dataset(folder)
    assert store.objects[f"/{registered.id}/train/a.csv.1"] == b"1,2\n"
    assert len(registry.traces) == 1


def test_many_small_files_do_not(registry: Any, client: Client, folder: Path) -> None:
    (folder / "large.bin").unlink()
    for number in range(6):
        (folder / f"{number}").write_bytes(b"1")
    client.add_dataset(folder)
    (upload,) = registry.uploads.values()
    assert not any("data" in file for file in upload["files"])


def test_a_file_that_changes_before_it_comes_along_is_not_registered(folder: Path) -> None:
    source = hash_sources(folder / "train" / "a.csv", Silent())[0]
    source.file.write_bytes(b"9,9\n")
    with pytest.raises(errors.Mismatch, match="changed while it was registered"):
        source.read()


def test_all_calls_of_a_registration_are_one_trace(registry: Any, client: Client, folder: Path) -> None:
    client.add_dataset(folder)
    first = list(registry.traces)
    client.add_dataset(folder)
    traces = [{tracing.parse(text).trace_id for text in told} for told in (first, registry.traces[len(first) :])]
    assert len(first) > 2
    assert [len(ids) for ids in traces] == [1, 1]
    assert traces[0] != traces[1]
    assert len(set(first)) == len(first)


def test_an_interrupted_upload_goes_on_with_what_is_there(
    store: Any, registry: Any, client: Client, folder: Path, mishap: dict[str, Any]
) -> None:
    store.mishaps += [store.answer, store.answer, *[mishap["status"](404)] * 5]
    with pytest.raises(errors.Unavailable):
        client.add_dataset(folder)
    store.mishaps.clear()
    there, before = set(store.objects), len(store.requests)
    assert 0 < len(there) < 5
    client.add_dataset(folder)
    assert len(registry.uploads) == 1
    assert not there & {path for method, path in store.requests[before:] if method == "PUT"}


def test_the_same_again_after_it_was_done_is_another_registration(registry: Any, client: Client, folder: Path) -> None:
    first, second = client.add_dataset(folder), client.add_dataset(folder)
    assert first.id != second.id
    assert len(registry.uploads) == 2


def test_an_upload_that_the_registry_forgot_begins_anew(
    store: Any, registry: Any, client: Client, folder: Path, mishap: dict[str, Any]
) -> None:
    store.mishaps += [mishap["status"](404)]
    with pytest.raises(errors.Unavailable):
        client.add_dataset(folder)
    store.mishaps.clear()
    real, forgotten = registry.act, list(registry.uploads)

    def act(method: str, path: str, body: Any, key: str | None) -> Any:
        if key in forgotten:
            return mishap["problem"](409, "conflict", "begin again")
        return real(method, path, body, key)

    registry.act = act
    client.add_dataset(folder)
    assert len(registry.uploads) == 2


def test_an_upload_that_the_registry_forgets_meanwhile_begins_anew(
    registry: Any, client: Client, folder: Path, mishap: dict[str, Any]
) -> None:
    real = registry.act

    def act(method: str, path: str, body: Any, key: str | None) -> Any:
        if path.endswith("/confirm") and len(registry.seen) == 0:
            registry.seen.append(key)
            registry.uploads.clear()  # as when its database is lost and rebuilt
        return real(method, path, body, key)

    registry.seen, registry.act = [], act
    registered = client.add_dataset(folder)
    assert [upload["id"] for upload in registry.uploads.values()] == [registered.id]
    assert list(registry.uploads) == registry.seen, "under the same key"


def test_an_expired_url_is_asked_for_again(store: Any, client: Client, folder: Path, mishap: dict[str, Any]) -> None:
    store.mishaps += [mishap["status"](403), mishap["status"](403)]
    client.add_dataset(folder)
    assert len(store.objects) == 5


def test_a_registry_that_restarts_is_waited_for(
    registry: Any, client: Client, folder: Path, mishap: dict[str, Any]
) -> None:
    registry.mishaps += [mishap["hang_up"], mishap["hang_up"]]
    client.add_dataset(folder)


def test_many_small_files_are_asked_for_in_pages(store: Any, registry: Any, client: Client, tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / "many" / str(number % 7)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "many" / str(number % 7) / f"{number}.txt").write_text(str(number))
    client.add_dataset(tmp_path / "many")
    assert len(store.objects) == 1200
    assert sum(path.endswith("/urls") for _, path in registry.requests) == 3


def test_a_link_a_pipe_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Invalid, match="no files"):
        scan(tmp_path)
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(errors.Invalid, match="symbolic link"):
        scan(tmp_path)
    (tmp_path / "b").unlink()
    os.mkfifo(tmp_path / "c")
    with pytest.raises(errors.Invalid, match="regular file"):
        scan(tmp_path)


def test_names_that_not_every_system_can_store_are_refused(tmp_path: Path) -> None:
    (Path(os.fsencode(tmp_path).decode()) / "a\nb").write_text("x")
    with pytest.raises(errors.Invalid, match="control character"):
        scan(tmp_path)


def test_a_split_is_by_fraction_or_glob_and_always_the_same(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.csv").write_text(str(number))
    sources = hash_sources(tmp_path, Silent())
    by_fraction = [s.path for s in split(sources, "0.25")]
    assert sum(path.startswith("test/") for path in by_fraction) == 5
    assert sorted(by_fraction) == sorted(s.path for s in split(list(reversed(sources)), "0.25"))
    by_glob = [s.path for s in split(sources, "test=1*.csv")]
    assert sum(path.startswith("test/1") for path in by_glob) == 10
    for rule in ("0", "1.5", "x", "train=*", "test=nothing*", "0.001"):
        with pytest.raises(errors.Invalid):
            split(sources, rule)


def test_a_file_that_changes_while_it_is_sent_is_not_registered(
    store: Any, client: Client, tmp_path: Path, mishap: dict[str, Any]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before" * 20_000)

    def change(handler: Any, body: bytes) -> None:
        file.write_bytes(b"beyond" * 20_000)
        mishap["reply"](handler, 503)

    store.mishaps.append(change)
    with pytest.raises(errors.Mismatch, match="since it was hashed"):
        client.add_dataset(file)


def test_each_byte_is_hashed_once(store: Any, client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = hashlib.sha256

    class Counting:
        def __init__(self, data: bytes = b"") -> None:
            self.state = real(data)
            hashed.append(len(data))

        def update(self, data: bytes) -> None:
            self.state.update(data)
            hashed.append(len(data))

        def digest(self) -> bytes:
            return self.state.digest()

        def hexdigest(self) -> str:
            return self.state.hexdigest()

    monkeypatch.setattr(hashlib, "sha256", Counting)
    client.add_dataset(folder)
    size = sum(len(data) for data in store.objects.values())
    assert size <= sum(hashed) < size + 10_000  # the rest is the manifest and the digest of part digests
