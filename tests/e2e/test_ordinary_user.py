"""The whole path as a user who is not root, on a machine that lets him make user namespaces, and on one that does not.

Run by an ordinary user, all other tests are that; here root becomes one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyshare.jobs import environment
from tests.e2e.machine import ENVIRONMENTS, Machine, polyshare_command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
UID = 65534
REFUSE = (sys.executable, str(Path(__file__).parents[1] / "contract" / "without_namespaces.py"))
AS_USER = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env")
# Where the interpreter is in root's own closed home, the user is shown it in a mount namespace of his.
SHOW = """
set -e
mount --bind "$1" "$3"
mount -t tmpfs -o mode=755 none "$2"
mkdir -p "$1"
mount --bind "$3" "$1"
shift 3
exec "$@"
"""


@pytest.fixture(scope="module")
def user() -> Iterator[Machine]:
    """A user with a home of his own and nothing else; root's prepared environments, to read."""
    environment.prepare(environment.resolve("uv:sklearn"), ENVIRONMENTS)
    home = Path(tempfile.mkdtemp(prefix="polyshare-user-"))
    (home / "python").mkdir()
    (home / "code").mkdir()
    (home / "code" / "train.py").write_text("open('/opt/ml/model/who', 'w').write('somebody')")
    (home / "data.csv").write_text("1,2,3\n")
    for path in (home, *home.rglob("*")):
        os.chown(path, UID, UID)
    machine = Machine(home, prefix=_as_user(home))
    if subprocess.run([*machine.prefix, polyshare_command(), "--version"], check=False, timeout=60).returncode:
        shutil.rmtree(home)
        pytest.skip("another user can't read this checkout or its Python, and can't be shown it")
    try:
        yield machine
    finally:
        machine.clean()
        shutil.rmtree(home, ignore_errors=True)


def test_the_whole_path_as_an_ordinary_user(user: Machine) -> None:
    if not _may_make_namespaces(user):
        pytest.skip("this machine refuses user namespaces to ordinary users")
    user.up()
    supervisor = user.supervisor()
    assert supervisor is not None
    assert {process.uids().effective for process in (supervisor, *supervisor.children(recursive=True))} == {UID}
    user.json("dataset", "add", str(user.home / "data.csv"), "--name", "numbers")
    model = _train(user, "model")
    status = user.json("status", model, "--follow")
    assert (status["state"], status["reason"]) == ("trained", None)
    user.polyshare("fetch", model, "-o", str(user.home / "out"))
    user.polyshare("verify", str(user.home / "out"))
    assert (user.home / "out" / "who").read_text() == "somebody"
    run = user.client().document(model).result
    assert run is not None
    assert "as user" in str(run.run)
    user.polyshare("down")


def test_where_namespaces_are_refused_training_says_what_to_do(user: Machine) -> None:
    allowed = user.prefix
    user.prefix = (*allowed, *REFUSE)
    try:
        user.up()
    finally:
        user.prefix = allowed
    if not user.json("list")["assets"]:
        user.json("dataset", "add", str(user.home / "data.csv"), "--name", "numbers")
    status = user.json("status", _train(user, "refused"), "--follow", expect=1)
    assert status["state"] == "failed"
    assert "no sandbox for Python environments works on this machine, so nothing is run" in status["reason"]
    assert "Install bubblewrap from the system's packages" in status["reason"]
    user.polyshare("down")


def _train(user: Machine, name: str) -> str:
    command = [
        "model",
        "add",
        "--dataset",
        "local/numbers",
        "--image",
        "uv:sklearn",
        "--source",
        str(user.home / "code"),
    ]
    return str(user.json(*command, "--name", name, "--no-translate")["id"])


def _may_make_namespaces(user: Machine) -> bool:
    done = subprocess.run([*user.prefix, "unshare", "--user", "true"], capture_output=True, timeout=30, check=False)
    return done.returncode == 0


def _as_user(home: Path) -> tuple[str, ...]:
    python = Path(sys.base_prefix).resolve()
    closed = next((folder for folder in reversed(python.parents) if folder.stat().st_mode & 0o005 != 0o005), None)
    if closed is None:
        return AS_USER
    shown = ("sh", "-c", SHOW, "sh", str(python), str(closed), str(home / "python"))
    return ("unshare", "--mount", "--propagation", "private", *shown, *AS_USER)
