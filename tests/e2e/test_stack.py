"""The embedded stack as a user has it: it serves, keeps what it has, survives kill -9, and is closed to others."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from polyshare.stack.doctor import examine
from polyshare.stack.embedded import holder
from polyshare.stack.keyring import Keyring
from polyshare.stack.layout import Layout, read_json
from polyshare.stack.weed import remove_sockets

PARTS = ("store", "chain", "functions", "runner")


class Machine:
    """A user's machine: a home of its own, with the CLI."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.layout = Layout(home / "data")
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("POLYSHARE_", "AWS_"))
        }
        self.environ |= {"HOME": str(home), "POLYSHARE_DATA": str(self.layout.data), "XDG_CONFIG_HOME": ""}

    def polyshare(self, *arguments: str, expect: int = 0, timeout: float = 240) -> str:
        done = subprocess.run(
            [_polyshare(), *arguments],
            env=self.environ,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def up(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.polyshare("up", "--detach", "--json"))
        return answer

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = read_json(self.layout.stack) or {}
        return state

    def processes(self) -> list[psutil.Process]:
        """The stack's, the supervisor's first."""
        supervisor = psutil.Process(self.state["pid"])
        return [supervisor, *supervisor.children(recursive=True)]

    def add(self, name: str) -> str:
        folder = self.home / name
        folder.mkdir()
        (folder / "data.csv").write_text(f"{name},1,2,3\n")
        return str(json.loads(self.polyshare("dataset", "add", str(folder), "--name", name, "--json"))["id"])

    def assets(self) -> set[str]:
        return {found["id"] for found in json.loads(self.polyshare("list", "--json"))["assets"]}

    def clean(self) -> None:
        pid = holder(self.layout)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: holder(self.layout) is None, 60)
        ports = read_json(self.layout.ports)
        if ports:
            remove_sockets(ports)


def _polyshare() -> str:
    return str(Path(sys.executable).with_name("polyshare"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("home"))
    try:
        made.up()
        yield made
    finally:
        made.clean()


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def test_it_serves_and_the_cli_is_logged_in(machine: Machine) -> None:
    asset = machine.add("first")
    assert asset in machine.assets()
    profile = machine.home / ".config/polyshare/profile.json"
    assert profile.stat().st_mode & 0o077 == 0
    assert read_json(profile)["organisation"] == "local"


def test_its_issuer_can_be_discovered(machine: Machine) -> None:
    issuer = machine.state["issuer"]
    found = httpx.get(f"{issuer}/.well-known/openid-configuration", timeout=10).json()
    assert found["issuer"] == issuer
    keys = httpx.get(found["jwks_uri"], timeout=10).json()["keys"]
    assert [set(key) & {"d"} for key in keys] == [set()]


def test_another_user_logs_in_with_a_role(machine: Machine) -> None:
    path = machine.home / "reader.json"
    machine.polyshare("login", "--user", "rita", "--organisation", "else", "--role", "reader", "--save", str(path))
    profile = read_json(path)
    assert profile["organisation"] == "else"
    headers = {"authorization": f"Bearer {profile['token']}"}
    url = profile["url"].format(function="catalogue") + "/"
    assert httpx.get(url, headers=headers, timeout=10).status_code == 200
    assert httpx.get(url, headers={"authorization": headers["authorization"] + "x"}, timeout=10).status_code == 401


def test_the_doctor_finds_all_well(machine: Machine) -> None:
    findings = json.loads(machine.polyshare("doctor", "--json"))
    assert findings["well"], [finding for finding in findings["findings"] if not finding["well"]]


def test_nothing_listens_beyond_this_machine(machine: Machine) -> None:
    found = [c.laddr.ip for p in machine.processes() for c in p.net_connections("inet") if c.status == "LISTEN"]
    assert len(found) >= 3
    assert set(found) == {"127.0.0.1"}


def test_no_secret_is_in_arguments_environments_or_logs(machine: Machine) -> None:
    layout = machine.layout
    secrets = [path.read_text().strip() for path in layout.secrets.iterdir() if path.suffix == ""]
    secrets += [path.read_text().strip() for path in (layout.data / "ledger").glob("*.key")]
    secrets += [json.loads(Keyring(layout).path("issuer.jwk").read_bytes())["d"]]
    assert len(secrets) > 8
    seen = ""
    for process in machine.processes():
        seen += " ".join(process.cmdline()) + " ".join(process.environ().values())
    for log in layout.log.iterdir():
        seen += log.read_text(errors="replace")
    assert not [secret for secret in secrets if secret in seen]


def test_all_files_are_behind_a_folder_of_its_owner(machine: Machine) -> None:
    assert machine.layout.data.stat().st_mode & 0o777 == 0o700
    for path in machine.layout.secrets.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_second_up_in_the_same_folder_says_so(machine: Machine) -> None:
    said = machine.polyshare("up", expect=1)
    assert machine.state["url"].removesuffix("/{function}") in said
    assert "polyshare down" in said
    machine.polyshare("up", "--detach", expect=1)
    assert "polyshare down" in machine.polyshare("rebuild", expect=1)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_killed_is_started_again_and_loses_nothing(machine: Machine, part: str) -> None:
    asset = machine.add(f"before-{part}")
    old = machine.state["pids"][part]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: machine.state["pids"][part] != old)
    answering = machine.state["url"].format(function="query_status") + "/healthz"
    wait_until(lambda: _status(answering) == 200)
    wait_until(lambda: examine_well(machine))
    assert asset in machine.assets()
    assert machine.add(f"after-{part}") in machine.assets()


def test_a_killed_supervisor_takes_all_with_it_and_up_goes_on(machine: Machine) -> None:
    asset, url = machine.add("before-all"), machine.state["url"]
    processes = machine.processes()
    processes[0].kill()
    gone, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive
    assert len(gone) > len(PARTS)
    assert holder(machine.layout) is None
    machine.up()
    assert machine.state["url"] == url
    assert asset in machine.assets()
    assert machine.add("after-all") in machine.assets()


def test_down_and_up_again_keep_everything(machine: Machine) -> None:
    before, processes = machine.assets(), machine.processes()
    assert "ended" in machine.polyshare("down")
    assert not psutil.wait_procs(processes, timeout=5)[1]
    for name, port in read_json(machine.layout.ports).items():
        assert not list(Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock")), name
    assert "nothing runs" in machine.polyshare("down")
    machine.up()
    assert machine.assets() == before


def test_a_lost_database_is_rebuilt(machine: Machine) -> None:
    before = machine.assets()
    machine.polyshare("down")
    for path in machine.layout.data.glob("catalogue.sqlite*"):
        path.unlink()
    assert "polyshare rebuild" in machine.polyshare("up", "--detach", expect=2)
    counts = json.loads(machine.polyshare("rebuild", "--json"))
    assert counts["assets"] == len(before)
    machine.up()
    assert machine.assets() == before


def test_a_corrupt_database_is_found_by_the_doctor(machine: Machine, tmp_path: Path) -> None:
    machine.polyshare("down")
    database = machine.layout.database
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = database.read_bytes()
    try:
        database.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
        assert "polyshare rebuild" in machine.polyshare("doctor", expect=1)
    finally:
        database.write_bytes(whole)
    machine.polyshare("doctor")


def test_a_taken_port_is_named_or_passed_by(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.layout.make()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is taken" in machine.polyshare("up", "--port", str(port), expect=2)
        machine.layout.ports.write_text(json.dumps({"functions": port}))
        try:
            assert machine.up()["url"] != f"http://127.0.0.1:{port}"
        finally:
            machine.clean()


def test_ctrl_c_ends_all_of_a_foreground_stack(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    process = subprocess.Popen(
        [_polyshare(), "up", "--json"],
        env=machine.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert _status(url + "/query_status/healthz") == 200
        processes = machine.processes()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert not psutil.wait_procs(processes, timeout=1)[1]
        assert not machine.state["running"]
    finally:
        process.kill()
        process.wait(timeout=10)
        machine.clean()


def examine_well(machine: Machine) -> bool:
    return all(finding.well for finding in examine(machine.layout))


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.HTTPError:
        return 0
