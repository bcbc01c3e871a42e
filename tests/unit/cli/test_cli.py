"""The command line: exit codes, --json everywhere, no traceback, and a quick start."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from polyshare.cli import main, polyshare
from polyshare.cli.register import _SIZES, _UNITS, _measure, pairs


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(polyshare)
    for name in polyshare.list_commands(context):
        command = polyshare.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", command.commands[inner]) for inner in command.commands)
        else:
            yield name, command


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYSHARE_CONFIG", str(tmp_path / "profile.json"))
    monkeypatch.setenv("POLYSHARE_URL", "http://127.0.0.1:9/{function}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value)[:30])
def test_every_command_has_json_and_help(name: str, command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert any("--json" in parameter.opts for parameter in command.params)
    assert command.help
    assert main([*name.split(), "--help"]) == 0
    assert "Usage: polyshare" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["status"],
        ["status", "a", "b"],
        ["dataset", "add", "/does/not/exist"],
        ["dataset", "add", ".", "--meta", "novalue"],
        ["dataset", "add", ".", "--visibility", "secret"],
        ["model", "add", "--dataset", "d", "--image", "i", "--time", "soon"],
        ["model", "add", "--dataset", "d", "--image", "i", "--param", "a=1", "--param", "a=2"],
        ["translate", "m", "--opset", "99"],
        ["share", "a", "b", "--until", "never"],
        ["list", "--limit", "0"],
    ],
)
def test_wrong_usage_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    assert main([*arguments, "--json"]) == 64
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["type"] == "usage"
    assert "Traceback" not in told.err


def test_what_does_not_answer_is_2_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["list"], ["status", "local/x"], ["fetch", "local/x"], ["revoke", "x", "--reason", "y"]):
        assert main(arguments) == 2
        assert "polyshare up" in capsys.readouterr().err
        assert main([*arguments, "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["type"] == "unavailable"


def test_without_a_registry_it_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POLYSHARE_URL")
    assert main(["list"]) == 2
    assert "polyshare login" in capsys.readouterr().err


def test_what_can_not_be_registered_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    assert main(["dataset", "add", str(tmp_path / "data")]) == 1
    (tmp_path / "data" / "link").symlink_to("/etc/passwd")
    assert main(["dataset", "add", str(tmp_path / "data")]) == 1
    told = capsys.readouterr().err
    assert "no files" in told
    assert "symbolic link" in told


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").write_text("x")
    (tmp_path / "out").write_text("a file")
    assert main(["verify", str(tmp_path / "gone")]) == 1
    assert "gone does not exist" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "model")]) == 2


def test_values_are_read_as_json_where_they_are() -> None:
    given = ("a=1", "b=0.5", "c=true", "d=null", 'e="3"', "f=CC BY 4.0", "g=", "h=x=y", "i=NaN")
    assert pairs(given, "--meta") == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": None,
        "e": "3",
        "f": "CC BY 4.0",
        "g": "",
        "h": "x=y",
        "i": "NaN",
    }


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("90", _UNITS, 90),
        ("30m", _UNITS, 1800),
        ("1.5h", _UNITS, 5400),
        ("2G", _SIZES, 2**31),
        ("512MiB", _SIZES, 2**29),
    ],
)
def test_times_and_sizes_have_units(text: str, units: dict[str, int], value: int) -> None:
    assert _measure(text, units, "--x") == value


def test_a_start_imports_only_what_it_needs() -> None:
    program = (
        "import sys; from polyshare.cli import main; main(['status', 'x'])\n"
        "heavy = {'rich', 'httpx', 'urllib3', 'boto3', 'web3', 'sqlalchemy', 'numpy', 'starlette', 'Crypto'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_an_inbox_key_for_the_configuration_of_aws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = {name: name for name in ("endpoint", "region", "bucket", "prefix", "access_key", "secret_key")}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps(key).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("POLYSHARE_URL", f"http://127.0.0.1:{server.server_port}/{{function}}")
        assert main(["inbox", "credentials", "--process"]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "Version": 1,
            "AccessKeyId": "access_key",
            "SecretAccessKey": "secret_key",
        }
        key |= {"session_token": "token", "expires": 1_800_000_000}  # type: ignore[dict-item]
        assert main(["inbox", "credentials", "--process"]) == 0
        given = json.loads(capsys.readouterr().out)
        assert (given["SessionToken"], given["Expiration"]) == ("token", "2027-01-15T08:00:00Z")
        assert main(["inbox", "credentials"]) == 0
        assert "AWS_SESSION_TOKEN" in capsys.readouterr().out
        server.shutdown()
