"""Jobs handed to Argo one after another, as one instance of run_job does, by a small API server in its own process.

What the API server and the controller of a real cluster take is told in docs/performance.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from polyshare.jobs.argo import ArgoRunner
from polyshare.jobs.job import Job
from polyshare.jobs.kubernetes import Access, Api
from tests.bench.measure import ROOT, Row, row
from tests.contract.kube_stub import TOKEN

JOBS = 1000
_SERVER = """
import time
from tests.contract.kube_stub import serving
with serving() as kube:
    print(kube.url, flush=True)
    time.sleep(600)
"""


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="polyshare-bench-") as name:
        token = Path(name) / "token"
        token.write_text(TOKEN)
        server = subprocess.Popen([sys.executable, "-c", _SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            runner = ArgoRunner(Api(Access(server.stdout.readline().strip(), token, Path(os.devnull), "jobs")))
            seconds = submit(runner, JOBS)
        finally:
            server.kill()
            server.wait()
    return [row("jobs submitted to a cluster a minute", round(60 * JOBS / seconds), None, "ours >= 2100")]


def submit(runner: ArgoRunner, count: int, prefix: str = "bench") -> float:
    """Seconds that so many submissions take."""
    deadline = time.time() + 3600
    started = time.perf_counter()
    for number in range(count):
        runner.submit(Job(f"{prefix}-{number}", 1, "train", "http://127.0.0.1:1/complete_job", "x" * 64, deadline))
    return time.perf_counter() - started
