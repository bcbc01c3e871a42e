"""What a function costs: CPU until it can serve, and CPU and time a request.

Start: a process that imports functions-framework's ASGI mode and makes the application of one function, as its
container does, against one that only imports functions_framework. Requests: `query_status` of an asset in SQLite with a
token, under uvicorn, against a bare ASGI application under uvicorn that answers the same bytes; one client each, over
one connection, requests one after the other.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from polyshare.stack.listening import HOST
from tests.bench.measure import ROOT, Row, cost, median, python, row

USER_FACING = (
    "query_status",
    "catalogue",
    "fetch_asset",
    "prove",
    "govern",
    "register_dataset",
    "register_model",
    "translate",
    "complete_job",
)
_ROUNDS = 3
_WARM, _REQUESTS = 50, 500
_FRAMEWORK = "import functions_framework"
# One request, and not a word of it printed.
_FIRST_ANSWER = """
import asyncio
from functions_framework.aio import create_asgi_app
app = create_asgi_app("query_status", "functions/query_status/handler.py", "http")
async def receive():
    return {{"type": "http.request", "body": b"", "more_body": False}}
async def send(message):
    assert message.get("status", 200) == 200, message
scope = {{"type": "http", "http_version": "1.1", "method": "GET", "path": {path!r}, "raw_path": {path!r}.encode(),
    "root_path": "", "scheme": "http", "query_string": b"", "server": ("x", 80), "client": ("x", 1),
    "headers": [(b"authorization", b"Bearer " + {token!r}.encode())]}}
asyncio.run(app(scope, receive, send))
"""
_FUNCTION = (
    "from functions_framework.aio import create_asgi_app\n"
    "create_asgi_app({name!r}, 'functions/{name}/handler.py', 'http')"
)


def run() -> list[Row]:
    """Rows of the table: milliseconds of CPU for starts and requests, requests a second."""
    return [*_starts(), *_requests()]


def _starts() -> list[Row]:
    programs = {name: _FUNCTION.format(name=name) for name in USER_FACING} | {"": _FRAMEWORK, "none": "pass"}
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(_ROUNDS):  # in turns, so that what else the machine does falls on all alike
        for name, program in programs.items():
            taken[name].append(cost(python("-c", program)).cpu)
    bare = median(taken["none"])  # the interpreter itself
    framework = median(taken[""]) - bare
    return [
        row(
            f"start of {name} until it serves, CPU ms (peer: import functions_framework)",
            (median(taken[name]) - bare) * 1000,
            framework * 1000,
            "≤ 2.5" if name == "query_status" else "≤ 4",
        )
        for name in USER_FACING
    ]


def _requests() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        prepared = json.loads(
            subprocess.run(
                [sys.executable, "-m", "tests.bench.functions_served", folder],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
            ).stdout
        )
        bare_start, framework, first = (
            [cost(python("-c", program), prepared["environ"]).cpu for _ in range(_ROUNDS)]
            for program in ("pass", _FRAMEWORK, _FIRST_ANSWER.format(path=prepared["path"], token=prepared["token"]))
        )
        ours, peer = [], []
        with (
            _served("tests.bench.functions_served:function", prepared["environ"]) as function,
            _served("tests.bench.functions_served:Bare", {"BARE_ANSWER": prepared["answer"]}) as bare,
        ):
            for _ in range(_ROUNDS):
                ours.append(_ask(*function, prepared["path"], prepared["token"]))
                peer.append(_ask(*bare, prepared["path"], prepared["token"]))
    rate, bare_rate = median(r for r, _ in ours), median(r for r, _ in peer)
    cpu, bare_cpu = median(c for _, c in ours), median(c for _, c in peer)
    start = median(bare_start)
    return [
        row(
            "start of query_status until its first answer, CPU ms (peer: import functions_framework)",
            (median(first) - start) * 1000,
            (median(framework) - start) * 1000,
            "reported",
        ),
        row("query_status, requests a second (peer: a bare ASGI application)", rate, bare_rate, "reported"),
        row("query_status, CPU ms a request (peer: a bare ASGI application)", cpu * 1000, bare_cpu * 1000, "reported"),
    ]


@contextmanager
def _served(application: str, environ: dict[str, str]) -> Iterator[tuple[psutil.Process, int]]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", application, "--host", HOST, "--port", str(port)]
    with subprocess.Popen(
        [*command, "--log-level", "error", "--no-access-log"], cwd=ROOT, env={**os.environ, **environ}
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    connection = http.client.HTTPConnection(HOST, port, timeout=5)
                    connection.request("GET", "/healthz")
                    connection.getresponse().read()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()


def _ask(process: psutil.Process, port: int, path: str, token: str) -> tuple[float, float]:
    """Requests a second, and CPU seconds of the server a request."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)

    def ask(count: int) -> None:
        for _ in range(count):
            connection.request("GET", path, headers={"authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            if answer.read() == b"" or answer.status != 200:
                raise RuntimeError(f"{path} was answered {answer.status}")

    ask(_WARM)
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    ask(_REQUESTS)
    wall, used = time.perf_counter() - began, sum(process.cpu_times()[:2]) - before
    connection.close()
    return _REQUESTS / wall, used / _REQUESTS


if __name__ == "__main__":
    for shown in run():
        print(json.dumps(shown, ensure_ascii=False))
