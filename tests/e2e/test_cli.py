"""The command line on a running stack: register, look, fetch, verify, share, revoke, erase."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import Machine, polyshare_command, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    files = {"train/a.csv": b"x,y\n1,0\n", "test/b.csv": os.urandom(50), "large.bin": os.urandom(20 << 20)}
    for name, data in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(data)
    return made


@pytest.fixture
def dataset(stack: Machine, folder: Path) -> Any:
    """A registered dataset that is on the ledger."""
    registered = stack.json("dataset", "add", str(folder), "--meta", "licence=CC0", "--meta", "rows=1")
    status = stack.json("status", registered["id"], "--follow")
    assert status["anchored"]
    return registered


def test_a_dataset_is_fetched_as_it_was_registered(stack: Machine, dataset: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetched = stack.json("fetch", dataset["id"], "-o", str(out))
    assert (fetched["files"], fetched["kept"]) == (3, 0)
    for file in ("train/a.csv", "test/b.csv", "large.bin"):
        assert (out / file).read_bytes() == (folder / file).read_bytes()
    assert stack.json("fetch", dataset["id"], "-o", str(out))["kept"] == 3
    shown = stack.polyshare("fetch", dataset["id"], "-o", str(out)).stdout
    assert dataset["address"] in shown
    assert "CC0" in shown
    (out / "train" / "a.csv").write_text("mine")
    stack.polyshare("fetch", dataset["id"], "-o", str(out), expect=1)
    stack.polyshare("fetch", dataset["id"], "-o", str(out), "--force")
    assert (out / "train" / "a.csv").read_bytes() == b"x,y\n1,0\n"


def test_verify_says_what_it_is_and_by_exit_code_whether_it_is(
    stack: Machine, dataset: Any, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    stack.polyshare("fetch", dataset["id"], "-o", str(out))
    report = stack.json("verify", str(out))
    assert (report["verdict"], report["asset"]["address"]) == ("verified", dataset["address"])
    assert [c["name"] for c in report["checks"] if c["outcome"] == "not established"] == ["seals"]
    assert stack.json("verify", str(out / "large.bin"))["verdict"] == "verified"
    assert stack.json("verify", str(folder))["asset"]["id"] == dataset["id"], "found by content alone"
    stack.polyshare("verify", str(out), "--rpc", "http://127.0.0.1:9", expect=2)
    (out / "extra").write_text("x")
    stack.polyshare("verify", str(out), expect=1)
    (out / "extra").unlink()
    with (out / "large.bin").open("r+b") as file:
        file.seek(17 << 20)
        byte = file.read(1)
        file.seek(17 << 20)
        file.write(bytes([byte[0] ^ 1]))
    assert stack.json("verify", str(out), expect=1)["verdict"] == "mismatch"
    stack.polyshare("verify", str(out / "train"))
    unknown = tmp_path / "unknown"
    unknown.write_text("never registered")
    stack.polyshare("verify", str(unknown), expect=2)


def test_a_ledger_that_is_not_the_pinned_one_decides_nothing(stack: Machine, dataset: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stack.polyshare("fetch", dataset["id"], "-o", str(out))
    profile = json.loads(stack.layout.profile.read_bytes())
    profile["ledger"]["registry"] = "0x" + "11" * 20
    other = tmp_path / "profile.json"
    other.write_text(json.dumps(profile))
    other.chmod(0o600)
    stack.polyshare("verify", str(out), expect=2, environ={"POLYSHARE_CONFIG": str(other)})
    del profile["ledger"]
    other.write_text(json.dumps(profile))
    stack.polyshare("verify", str(out), expect=2, environ={"POLYSHARE_CONFIG": str(other)})


def test_an_interrupted_upload_is_one_dataset_in_the_end(stack: Machine, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(512 << 20)
    pending = stack.home / ".local" / "state" / "polyshare" / "uploads"
    before = set(pending.iterdir()) if pending.exists() else set()
    arguments = ["dataset", "add", str(large), "--name", "interrupted"]
    process = subprocess.Popen(
        [polyshare_command(), *arguments], env=stack.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_until(lambda: pending.exists() and set(pending.iterdir()) - before, 60)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    told = process.stderr.read().decode()
    assert process.wait(30) == 130
    assert "same command again" in told
    assert "Traceback" not in told
    assert set(pending.iterdir()) - before
    registered = stack.json(*arguments)
    assert registered["version"] == 1
    assert set(pending.iterdir()) == before
    assert [a["id"] for a in stack.json("list", "--name", "interrupted")["assets"]] == [registered["id"]]


def test_the_same_name_again_is_the_next_version(stack: Machine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")
    first = stack.json("dataset", "add", str(tmp_path / "f"), "--name", "local/versioned")
    second = stack.json("dataset", "add", str(tmp_path / "f"), "--name", "local/versioned")
    assert (first["version"], second["version"]) == (1, 2)
    assert stack.json("show", "local/versioned@1")["asset"]["id"] == first["id"]
    assert stack.json("show", "local/versioned")["asset"]["id"] == second["id"]
    assert "versioned@2" in stack.polyshare("list", "versioned").stdout


def test_another_organisation_sees_what_is_shared_with_it_only(stack: Machine, dataset: Any, tmp_path: Path) -> None:
    other = tmp_path / "acme.json"
    stack.polyshare("login", "--user", "ann", "--organisation", "acme", "--role", "reader", "--save", str(other))
    acme = {"POLYSHARE_CONFIG": str(other)}
    for command in (["show"], ["status"], ["lineage"], ["fetch", "-o", str(tmp_path / "no")]):
        refused = stack.polyshare(command[0], dataset["id"], *command[1:], expect=1, environ=acme)
        assert "that you may read" in refused.stderr
    assert stack.json("share", dataset["id"], "acme", "--until", "1h")["grants"][0]["organisation"] == "acme"
    stack.polyshare("fetch", dataset["id"], "-o", str(tmp_path / "yes"), environ=acme)
    stack.polyshare("verify", str(tmp_path / "yes"), environ=acme)
    stack.polyshare("revoke", dataset["id"], "--reason", "not theirs", expect=1, environ=acme)
    assert stack.json("unshare", dataset["id"], "acme")["grants"] == []
    stack.polyshare("show", dataset["id"], expect=1, environ=acme)
    stack.polyshare("visibility", dataset["id"], "public")
    stack.polyshare("show", dataset["id"], environ=acme)
    assert stack.json("grants", dataset["id"])["visibility"] == "public"
    done = [(entry["action"], entry["subject"]) for entry in stack.json("audit", "--asset", dataset["id"])["entries"]]
    assert ("read", "ann") in done
    assert ("share", "me") in done


def test_a_revoked_asset_is_shown_as_such_everywhere(stack: Machine, dataset: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stack.polyshare("fetch", dataset["id"], "-o", str(out))
    stack.polyshare("revoke", dataset["id"], "--reason", "wrong labels")
    wait_until(lambda: stack.json("show", dataset["id"])["asset"]["revoked"]["anchored"], 60)
    assert "REVOKED" in stack.polyshare("verify", str(out)).stdout
    assert "wrong labels" in stack.polyshare("fetch", dataset["id"], "-o", str(out), "--force").stdout
    assert "wrong labels" in stack.polyshare("verify", str(out)).stdout
    refused = stack.polyshare("model", "add", "--dataset", dataset["id"], "--image", "uv:sklearn", expect=1)
    assert "revoked" in refused.stderr
    stack.polyshare("revoke", dataset["id"], "--reason", "another reason", expect=1)


def test_what_is_erased_is_gone_but_for_its_record(stack: Machine, dataset: Any, tmp_path: Path) -> None:
    stack.polyshare("erase", dataset["id"], "--yes", "something else", expect=1)
    stack.polyshare("erase", dataset["id"], expect=1)
    stack.polyshare("erase", dataset["id"], "--yes", dataset["id"])
    assert "erased" in stack.polyshare("fetch", dataset["id"], "-o", str(tmp_path / "out"), expect=1).stderr
    assert stack.json("status", dataset["id"])["erased"]


def test_a_model_brought_along_is_called_imported(stack: Machine, dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"tree\nversion=v4\n" + os.urandom(100))
    registered = stack.json("model", "import", str(tmp_path / "model.bin"), "--trained-on", dataset["id"])
    assert registered["kind"] == "imported_model"
    assert "imported model" in stack.polyshare("show", registered["id"]).stdout
    lineage = stack.json("lineage", registered["id"])
    assert [a["id"] for a in lineage["assets"]] == [registered["id"], dataset["id"]]
    stack.json("status", registered["id"], "--follow")
    stack.polyshare("fetch", registered["id"], "-o", str(tmp_path / "out"))
    assert "lightgbm" in (tmp_path / "out" / "polyshare.json").read_text(), "its framework was recognised"
    report = stack.json("verify", str(tmp_path / "out"))
    assert report["verdict"] == "verified"
    assert dataset["id"] in json.dumps(report["checks"])


def test_mistakes_are_told_without_a_traceback(stack: Machine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    stack.polyshare("status", "nothing", expect=1)
    stack.polyshare("status", "local/nothing", expect=1)
    stack.polyshare("status", "6fa459ea-ee8a-4ca4-894e-db77e160355e", expect=1)
    stack.polyshare("dataset", "add", str(tmp_path / "f"), "--name", "No Such Name!", expect=1)
    stack.polyshare("dataset", "add", str(tmp_path / "f"), "--name", "acme/digits", expect=1)
    stack.polyshare("dataset", "add", str(tmp_path / "f"), "--meta", "version=3", expect=1)
    stack.polyshare("dataset", "add", str(tmp_path / "f"), "--meta", "nested={}", expect=1)
    stack.polyshare("model", "add", "--dataset", "local/nothing", "--image", "uv:sklearn", expect=1)
    stack.polyshare("list", environ={"POLYSHARE_TOKEN": "forged"}, expect=1)


def test_an_operator_makes_the_catalogue_anew_with_the_functions_settings(stack: Machine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    asset = stack.json("dataset", "add", str(tmp_path / "f"), "--name", "found-again")["id"]
    stack.polyshare("status", asset, "--follow")
    program = [str(Path(polyshare_command()).with_name("python")), "-m", "polyshare.catalogue", "rebuild"]
    environ = {**stack.environ, "POLYSHARE_SETTINGS": str(stack.layout.settings)}

    def rebuild() -> subprocess.CompletedProcess[str]:
        command = [*program, "--database", f"sqlite:///{tmp_path}/new.sqlite"]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)

    done = rebuild()
    assert done.returncode == 0, done.stderr
    assert "of them on the ledger" in done.stdout
    with sqlite3.connect(tmp_path / "new.sqlite") as connection:
        found = connection.execute("SELECT name, anchored FROM assets WHERE id = ?", (asset,)).fetchone()
    assert found[0] == "found-again"
    assert found[1] is not None
    again = rebuild()
    assert again.returncode == 1
    assert "not empty" in again.stderr
