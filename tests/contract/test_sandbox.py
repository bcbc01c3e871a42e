"""What a sandbox must contain, tried for real: as who we are, and where that is root also as an ordinary user."""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyshare.jobs import bubblewrap
from polyshare.jobs.job import Limits
from polyshare.jobs.sandbox import Mount, Run
from tests.contract.sandbox_attacks import ATTACKS, Ended, attack, bare

ROOT = Path(__file__).parents[2]
# setpriv keeps its powers up to what it starts, so something is started in between
OTHER_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env")
TOKEN = "job-token-" + secrets.token_hex(8)


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What is there to be had: a listening server, an abstract socket, a secret on the disk and in our variables."""
    secret = tmp_path_factory.mktemp("data") / "ledger.key"
    secret.write_text("key")
    abstract = f"polyshare-{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as named:
        named.bind("\0" + abstract)
        named.listen()
        os.environ["POLYSHARE_TEST_TOKEN"] = TOKEN
        yield {"port": str(server.getsockname()[1]), "abstract": abstract, "secret": str(secret), "token": TOKEN}
        del os.environ["POLYSHARE_TEST_TOKEN"]


def ordinary(command: list[str], *, namespaces: bool = True) -> list[str]:
    """A command as an ordinary user, with user namespaces or refused them as some systems do."""
    refuse = [sys.executable if os.geteuid() else _python(), str(ROOT / "tests/contract/without_namespaces.py")]
    inner = command if namespaces else [*refuse, *command]
    if os.geteuid() != 0:
        return inner
    return [*OTHER_USER, *inner]


@functools.cache
def _python() -> str:
    """An interpreter that an ordinary user can start: root's own may be in a closed home."""
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = [name, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run([*OTHER_USER, *check], capture_output=True, timeout=10, check=False).returncode == 0:
                return name
        except OSError:
            continue
    pytest.skip("an ordinary user can start no Python 3.11 here: install one in /usr/bin")


def program(*arguments: str, namespaces: bool = True) -> subprocess.CompletedProcess[str]:
    """sandbox_attacks.py as an ordinary user."""
    python = sys.executable if os.geteuid() else _python()
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    command = [python, str(ROOT / "tests/contract/sandbox_attacks.py"), *arguments]
    environ = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}/shared:{packages}",
        "TMPDIR": "/tmp",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        ordinary(command, namespaces=namespaces), capture_output=True, text=True, timeout=60, env=environ, check=False
    )


def check(name: str, ended: Ended) -> None:
    wanted = ATTACKS[name]
    assert re.fullmatch(wanted.status, ended.status), f"{ended.reason}\n{ended.log}"
    assert wanted.says in ended.reason
    assert ended.seconds < wanted.limits.wall_seconds + 5
    assert ended.written < 3 * wanted.limits.disk_bytes
    if ended.status == "memory":
        assert ended.peak_memory < 4 * wanted.limits.memory_bytes  # what a tenth of a second can add
    assert len(ended.log) < 2 * wanted.limits.log_bytes


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_contained(name: str, bait: dict[str, str], tmp_path: Path) -> None:
    check(name, attack(name, bait, tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="we are an ordinary user: the test above is this one")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_contained_as_an_ordinary_user(name: str, bait: dict[str, str]) -> None:
    done = program(name, json.dumps(bait))
    assert done.returncode == 0, done.stderr
    check(name, Ended(**json.loads(done.stdout)))


def test_an_ordinary_user_who_is_refused_user_namespaces_is_told_how_to_get_a_sandbox(bait: dict[str, str]) -> None:
    done = program("powers", json.dumps(bait), namespaces=False)
    assert done.returncode != 0
    assert "polyshare.errors.Unavailable: no sandbox for Python environments works" in done.stderr
    assert "nstall bubblewrap" in done.stderr


def test_nothing_of_a_run_lives_on(tmp_path: Path, bait: dict[str, str]) -> None:
    attack("staying behind", bait, tmp_path)
    before = (tmp_path / "model" / "alive").stat().st_size
    time.sleep(0.4)
    assert (tmp_path / "model" / "alive").stat().st_size == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["input", "model", "run.log"]


def test_a_run_dies_with_its_runner(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    starter = (
        "import os, sys; from pathlib import Path; from polyshare.jobs import bubblewrap\n"
        "from polyshare.jobs.sandbox import *; from tests.contract.sandbox_attacks import bare\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "code = \"import time\\nwhile True: open('/opt/ml/model/alive', 'a').write('x'); time.sleep(.05)\"\n"
        "bubblewrap.probe().run(Run(bare(), (os.path.realpath(sys.executable), '-c', code), "
        "(Mount(folder / 'model', '/opt/ml/model', True),), {}, Limits(), folder / 'log'))"
    )
    runner = subprocess.Popen([sys.executable, "-c", starter], cwd=ROOT)
    alive = tmp_path / "model" / "alive"
    until = time.monotonic() + 20
    while not alive.exists() and time.monotonic() < until:
        time.sleep(0.05)
    runner.kill()
    runner.wait()
    time.sleep(0.3)
    size = alive.stat().st_size
    time.sleep(0.5)
    assert alive.stat().st_size == size > 0


def test_a_cancelled_run_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    run = Run(
        bare(),
        (os.path.realpath(sys.executable), "-c", "import time; time.sleep(60)"),
        (Mount(tmp_path / "model", "/opt/ml/model", True),),
        {},
        Limits(),
        tmp_path / "log",
    )
    started = time.monotonic()
    finished = bubblewrap.probe().run(run, cancelled=lambda: time.monotonic() - started > 0.5)
    assert finished.status == "cancelled"
    assert time.monotonic() - started < 5


def test_the_log_is_heard_while_the_run_goes_on(tmp_path: Path) -> None:
    heard: list[tuple[float, str]] = []
    code = "import time\nfor i in range(4): print('line', i, flush=True); time.sleep(.6)"
    run = Run(bare(), (os.path.realpath(sys.executable), "-c", code), (), {}, Limits(), tmp_path / "log")
    started = time.monotonic()
    finished = bubblewrap.probe().run(run, on_log=lambda tail: heard.append((time.monotonic() - started, tail)))
    assert finished.status == "done"
    assert heard
    assert heard[0][0] < 1.5
    assert "line 0" in heard[0][1]


def test_the_run_record_is_told_what_is_not_contained() -> None:
    sandbox = bubblewrap.probe()
    assert sandbox.name.startswith("bubblewrap ")
    assert any("kernel" in gap for gap in sandbox.gaps)
