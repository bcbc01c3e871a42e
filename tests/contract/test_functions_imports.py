"""Each function by its own, in a process of its own, on real adapters: what it imports, and that it serves.

The rule is DESIGN §4 and §11: the ledger's library is in anchor alone (prove reads by plain JSON-RPC), and no function
imports ONNX, a framework of models or a client of Kubernetes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polyshare import openapi
from tests.unit.http_world import EVENT_TOKEN, FOLDER

LEDGER_LIBRARIES = {"web3", "eth_account", "eth_abi", "eth_keys", "coincurve", "rlp"}
NEVER = {
    *("onnx", "onnxruntime", "skl2onnx", "sklearn", "torch", "tensorflow", "jax", "numpy", "skops", "pandas"),
    *("opentelemetry", "kubernetes", "argo_workflows", "hera", "rich", "psutil", "pytest", "hypothesis", "moto"),
}
# Makes the application as functions-framework's own entry does, then asks it for each path; says what was imported.
PROGRAM = """
import asyncio, json, os, sys
from functions_framework.aio import create_asgi_app
app = create_asgi_app()
started = sorted({name.partition(".")[0] for name in sys.modules})

async def ask(method, path, headers, body):
    answer, sent = {"body": b""}, iter([body])
    async def receive():
        return {"type": "http.request", "body": next(sent, b""), "more_body": False}
    async def send(message):
        answer.update(message, body=answer["body"] + message.get("body", b""))
    scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
             "root_path": "", "scheme": "http", "query_string": b"", "server": ("x", 80), "client": ("x", 1),
             "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    await app(scope, receive, send)
    return answer["status"], answer["body"].decode()

answers = [asyncio.run(ask(m, p, h, b.encode())) for m, p, h, b in json.loads(sys.argv[1])]
used = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"started": started, "used": used, "answers": answers}))
"""


def run(
    function: str, folder: Path, *asked: tuple[str, str, dict[str, str], str], **settings: object
) -> dict[str, Any]:
    """Serve requests from a process of the function's own, with settings in its environment as on a platform."""
    (folder / "token").write_text(EVENT_TOKEN)
    (folder / "key").write_text("x")
    (folder / "jwks.json").write_text('{"keys": []}')
    environ = {k: v for k, v in os.environ.items() if not k.startswith("POLYSHARE_")}
    environ |= {"FUNCTION_TARGET": function, "FUNCTION_SOURCE": str(FOLDER / function / "handler.py")}
    trust_root = {"chain_id": 1, "registry": "0x" + "11" * 20, "definitions": {}}
    named = {
        "database": f"sqlite:///{folder / 'catalogue.db'}",
        "s3_endpoint": "http://127.0.0.1:1",
        "s3_access_key_file": folder / "key",
        "s3_secret_key_file": folder / "key",
        "functions_url": "http://127.0.0.1:1/{function}",
        "event_token_file": folder / "token",
        "jwt_issuer": "https://issuer.example.org",
        "jwks_file": folder / "jwks.json",
        "ledger_rpc": "http://127.0.0.1:1",
        "trust_root": json.dumps(trust_root),
        **settings,
    }
    environ |= {f"POLYSHARE_{name.upper()}": str(value) for name, value in named.items()}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def event(kind: str) -> tuple[str, str, dict[str, str], str]:
    headers = {"authorization": f"Bearer {EVENT_TOKEN}", "content-type": "application/cloudevents+json"}
    return ("POST", "/", headers, json.dumps({"specversion": "1.0", "id": "1", "source": "s", "type": kind}))


@pytest.mark.parametrize("function", openapi.FUNCTIONS)
def test_a_function_imports_no_more_than_its_list_and_serves(function: str, tmp_path: Path) -> None:
    """And none but anchor, when it writes, misses the ledger's key."""
    nothing = ("GET", "/nothing/there/is", {}, "")
    answer = run(function, tmp_path, ("GET", "/healthz", {}, ""), nothing, ledger_key_file=tmp_path / "no.key")
    assert answer["answers"][0] == [200, "ok"]
    assert answer["answers"][1][0] == 404
    used = set(answer["used"])
    assert not used & NEVER
    assert not used & LEDGER_LIBRARIES
    assert not {"boto3", "botocore"} & set(answer["started"])


@pytest.mark.parametrize(
    ("function", "path"),
    [("query_status", "/acme%2Fx"), ("fetch_asset", "/acme%2Fx"), ("catalogue", "/"), ("prove", "/trust-root")],
)
def test_a_functions_first_answer_needs_neither_store_nor_ledger(function: str, path: str, tmp_path: Path) -> None:
    answer = run(function, tmp_path, ("GET", path, {}, ""))
    status, body = answer["answers"][0]
    assert status == (404 if "%2F" in path else 200), body
    assert not {"boto3", "botocore", *LEDGER_LIBRARIES, *NEVER} & set(answer["used"])


def test_prove_reads_the_ledger_without_its_library(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from polyshare.ledger.chain import ChainLedger\n"
        "from polyshare.settings import Settings\n"
        "import os\n"
        "ledger = ChainLedger.from_settings(Settings.read(os.environ))\n"
        "try:\n"
        "    ledger.asset(bytes(20))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules}))\n"
    )
    environ = {**os.environ, **{f"POLYSHARE_{k.upper()}": v for k, v in SETTINGS.items()}}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("Unavailable")
    assert not any(f"'{name}'" in done.stdout for name in LEDGER_LIBRARIES)


SETTINGS = {
    **dict.fromkeys(("database", "s3_endpoint", "s3_access_key_file", "s3_secret_key_file"), ""),
    **dict.fromkeys(("functions_url", "event_token_file", "jwt_issuer", "jwks_file"), ""),
    "ledger_rpc": "http://127.0.0.1:1",
    "trust_root": json.dumps(
        {
            "chain_id": 1,
            "registry": "0x" + "11" * 20,
            "definitions": dict.fromkeys("1234", "0x" + "22" * 20),
        }
    ),
}


def test_anchor_reads_the_ledgers_key_only_when_there_is_something_to_write(tmp_path: Path) -> None:
    asked = event("polyshare.asset.registered")
    answer = run("anchor", tmp_path, asked, ledger_key_file=tmp_path / "no.key", trust_root=SETTINGS["trust_root"])
    assert answer["answers"][0] == [204, ""]


def test_a_missing_setting_is_told_to_the_operator_and_not_to_the_caller(tmp_path: Path) -> None:
    answer = run("query_status", tmp_path, ("GET", "/acme%2Fx", {}, ""), trust_root="{")
    status, body = answer["answers"][0]
    assert status == 500
    assert "TRUST_ROOT" not in body
