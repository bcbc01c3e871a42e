"""Fetching into a folder: files are in place only when they verify, and what was interrupted goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from polyshare import errors
from polyshare.client import Client
from polyshare.client.endpoint import Endpoint
from polyshare.client.fetch import PARTIAL, fetch
from polyshare.client.progress import Silent
from polyshare.hashing import SMALLEST_PART
from polyshare.wire import Connections

LARGE = os.urandom(2 * SMALLEST_PART + 9)
FILES = {"a.csv": b"1,2\n", "deep/er/b.bin": os.urandom(1000), "empty": b"", "large.bin": LARGE}


def document(registry: Any, files: dict[str, bytes], **changes: Any) -> dict[str, Any]:
    listed = [registry.serve(path, data) for path, data in sorted(files.items())]
    made = {
        "schema": "polyshare/asset/1",
        "id": "6fa459ea-ee8a-4ca4-894e-db77e160355e",
        "kind": "dataset",
        "organisation": "local",
        "name": "digits",
        "version": 1,
        "state": "registered",
        "created": 0.0,
        "registrant": "me",
        "address": "0x" + "11" * 20,
        "anchored": True,
        "chain": {"chain_id": 1, "registry": "0x" + "22" * 20, "definitions": {}},
        "record": "",
        "metadata": {},
        "content": {"salt": "00" * 32, "root": "00" * 32, "files": listed},
        "request": None,
        "result": None,
        "source": [],
        "report": [],
        "lineage": [],
        "revoked": None,
        "erased": False,
        **changes,
    }
    registry.documents[made["id"]] = made
    return made


def run(client: Client, made: dict[str, Any], folder: Path, *, force: bool = False) -> Any:
    endpoint = Endpoint(client.profile, Connections(idle=2.0, pause=0.01))
    return fetch(endpoint, client.document(made["id"]), folder, part="main", force=force, progress=Silent())


def there(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "polyshare.json"
    }


def test_files_are_placed_with_their_document(registry: Any, client: Client, tmp_path: Path) -> None:
    made = document(registry, FILES)
    fetched = run(client, made, tmp_path / "out")
    assert there(tmp_path / "out") == FILES
    assert (tmp_path / "out" / "polyshare.json").exists()
    assert (fetched.files, fetched.kept) == (4, 0)
    assert run(client, made, tmp_path / "out").kept == 4


def test_what_was_interrupted_goes_on_with_the_parts_that_verify(
    store: Any, registry: Any, client: Client, tmp_path: Path, mishap: dict[str, Any]
) -> None:
    made = document(registry, {"large.bin": LARGE})
    store.mishaps += [store.answer, store.answer, *[mishap["status"](500)] * 5]
    with pytest.raises(errors.Unavailable):
        run(client, made, tmp_path / "out")
    assert there(tmp_path / "out").keys() == {p.relative_to(tmp_path / "out").as_posix() for p in partial(tmp_path)}
    before = len(store.requests)
    run(client, made, tmp_path / "out")
    assert len(store.requests) - before == 1
    assert there(tmp_path / "out") == {"large.bin": LARGE}


def partial(folder: Path) -> list[Path]:
    return list((folder / "out" / PARTIAL).iterdir())


def test_a_damaged_partial_file_is_fetched_again(
    store: Any, registry: Any, client: Client, tmp_path: Path, mishap: dict[str, Any]
) -> None:
    made = document(registry, {"large.bin": LARGE})
    store.mishaps += [store.answer, store.answer, *[mishap["status"](500)] * 5]
    with pytest.raises(errors.Unavailable):
        run(client, made, tmp_path / "out")
    (left,) = partial(tmp_path)
    left.write_bytes(b"?" * (3 * SMALLEST_PART))
    run(client, made, tmp_path / "out")
    assert there(tmp_path / "out") == {"large.bin": LARGE}


def test_wrong_bytes_are_never_placed(store: Any, registry: Any, client: Client, tmp_path: Path) -> None:
    made = document(registry, FILES)
    store.objects[registry.objects["a.csv"]] = b"1,3\n"
    with pytest.raises(errors.Mismatch, match=r"a\.csv"):
        run(client, made, tmp_path / "out")
    assert not (tmp_path / "out" / "a.csv").exists()
    assert not (tmp_path / "out" / "polyshare.json").exists()


def test_other_files_in_the_places_are_kept_unless_forced(registry: Any, client: Client, tmp_path: Path) -> None:
    made = document(registry, FILES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").write_bytes(b"mine")
    with pytest.raises(errors.Conflict, match="--force"):
        run(client, made, tmp_path / "out")
    assert there(tmp_path / "out") == {"a.csv": b"mine"}
    run(client, made, tmp_path / "out", force=True)
    assert there(tmp_path / "out") == FILES


def test_the_folder_of_another_asset_is_not_mixed_with(registry: Any, client: Client, tmp_path: Path) -> None:
    run(client, document(registry, {"a": b"a"}), tmp_path / "out")
    other = document(registry, {"b": b"b"}, id="7fa459ea-ee8a-4ca4-894e-db77e160355e")
    with pytest.raises(errors.Conflict, match="holds asset"):
        run(client, other, tmp_path / "out")


def test_paths_that_lead_out_of_the_folder_are_refused(registry: Any, client: Client, tmp_path: Path) -> None:
    for path in ("../a", "/etc/a", "a/../../b", "polyshare.json"):
        made = document(registry, {path: b"a"})
        with pytest.raises(errors.Invalid):
            run(client, made, tmp_path / "out")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "sub").symlink_to(tmp_path)
    with pytest.raises(errors.Conflict, match="symbolic link"):
        run(client, document(registry, {"sub/a": b"a"}), tmp_path / "out")
    assert not (tmp_path / "a").exists()


def test_an_expired_url_is_asked_for_again(
    store: Any, registry: Any, client: Client, tmp_path: Path, mishap: dict[str, Any]
) -> None:
    made = document(registry, FILES)
    store.mishaps += [mishap["status"](403)] * 2
    run(client, made, tmp_path / "out")
    assert there(tmp_path / "out") == FILES


def test_what_has_no_files_says_why(registry: Any, client: Client, tmp_path: Path) -> None:
    model = {"kind": "model", "content": None}
    with pytest.raises(errors.Conflict, match="nothing to fetch yet"):
        run(client, document(registry, {}, **model, state="running"), tmp_path / "out")
    with pytest.raises(errors.Conflict, match="out of memory"):
        run(client, document(registry, {}, **model, state="failed", reason="out of memory"), tmp_path / "out")
    with pytest.raises(errors.Erased):
        run(client, document(registry, {}, erased=True), tmp_path / "out")
