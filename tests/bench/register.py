"""100 datasets of one small file from one client, one after another, against an S3 put and an MLflow `log_artifact` of
the same files: the same SeaweedFS, and an `mlflow server` on SQLite, which also keeps its artifacts on this machine.

The peer has one run for all files, so it does not pay for making one each. Ours is until each is acknowledged; until
it is anchored is read from its status, where the registry notes each stage's time.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.measure import Row, median, percentile, row
from tests.bench.stack import Stack, s3_client, stack

DATASETS = 100
ROUNDS = 9
BYTES = 4096
_PATIENCE = 60.0  # seconds


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="polyshare-bench-") as name, stack() as running:
        folder = Path(name)
        with mlflow_server(folder / "mlflow") as url:
            peer = _Peer(running, url)
            ours_seconds, peer_seconds, latencies = [], [], []
            for turn in range(ROUNDS + 1):
                files = _files(folder / f"{turn}", DATASETS if turn else 10)
                mine, waited = _ours(running, files)
                theirs = peer.put(files)
                if turn:  # the first is for what is imported at first use, on both sides
                    ours_seconds.append(mine)
                    peer_seconds.append(theirs)
                    latencies += waited
    return [
        row(
            f"{DATASETS} datasets of one file registered, s (peer: S3 put + MLflow log_artifact)",
            median(ours_seconds),
            median(peer_seconds),
            "<= 1",
        ),
        row("from asked to anchored, p95 s", percentile(latencies, 0.95), None, "ours <= 3"),
    ]


def _ours(running: Stack, files: list[Path]) -> tuple[float, list[float]]:
    """Seconds until all are acknowledged, and for each from when it was asked until it was anchored."""
    with running.client() as client:
        started = time.perf_counter()
        made = [(time.time(), client.add_dataset(file).id) for file in files]
        seconds = time.perf_counter() - started
        return seconds, [_anchored_at(client, asset) - asked for asked, asset in made]


def _anchored_at(client: Any, asset: str) -> float:
    """Unix seconds, by the clock of this machine."""
    end = time.monotonic() + _PATIENCE
    while True:
        stages = {stage.stage: stage.at for stage in client.status(asset).stages}
        if "anchored" in stages:
            return float(stages["anchored"])
        if time.monotonic() > end:
            raise RuntimeError(f"{asset} was not anchored in {_PATIENCE:.0f} s")
        time.sleep(0.1)


class _Peer:
    def __init__(self, running: Stack, url: str) -> None:
        os.environ.update(MLFLOW_HTTP_REQUEST_TIMEOUT="30", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")
        import mlflow

        mlflow.set_tracking_uri(url)
        self._client = mlflow.MlflowClient()
        self._run = self._client.create_run(self._client.create_experiment("bench")).info.run_id
        self._s3, self._bucket = s3_client(running.s3()), running.bucket("bench")

    def put(self, files: list[Path]) -> float:
        started = time.perf_counter()
        for file in files:
            with file.open("rb") as body:
                self._s3.put_object(Bucket=self._bucket, Key=f"{file.parent.name}/{file.name}", Body=body)
            self._client.log_artifact(self._run, str(file), file.parent.name)
        return time.perf_counter() - started


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """One worker process, on this machine."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # else it forks four more processes
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for(f"{url}/health", process, folder / "log")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 5 * _PATIENCE  # it imports a lot, twice
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise RuntimeError(f"mlflow server does not come up: {log.read_text(errors='replace')[-2000:]}")


def _files(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number:03d}.csv" for number in range(count)]
    for file in files:
        file.write_bytes(os.urandom(BYTES))
    return files
