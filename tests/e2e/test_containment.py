"""Hostile trainings through the whole local runner: told as failed with their reason, and nobody else is slowed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from polyshare.jobs import environment
from polyshare.jobs.job import Job, RunState
from polyshare.jobs.local import LocalRunner
from tests.unit.jobs.conftest import CACHE
from tests.unit.jobs.platform import Platform, serving

MIB = 1024**2
HONEST = b"""
import hashlib
data = bytes(1 << 20)
for _ in range(600): hashlib.sha256(data).digest()
open("/opt/ml/model/m", "w").write("fine")
"""
HOSTILE = {
    "fork bomb": (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "processes and threads; the limit",
    ),
    "memory": ("b = []\nwhile True: b.append(bytearray(16 << 20))", "of memory; the limit is 1.0 GiB"),
    "100 GB of output": (
        "for i in range(100):\n    with open(f'/opt/ml/model/{i}', 'wb') as f:\n"
        "        for _ in range(64): f.write(bytes(1 << 24))",
        "it wrote more than its limit",
    ),
    "a million files": (
        "for i in range(1_000_000): open(f'/opt/ml/model/{i}', 'w').close()",
        "made more than 10000 files",
    ),
    "never ends, on all cores": (
        "import os\nfor _ in range(40): os.fork() or exec('while True: pass')\nwhile True: pass",
        "longer than its limit",
    ),
    "prints without end": ("while True: print('x' * 10_000)", "longer than its limit"),
    "network": ("import socket; socket.create_connection(('192.0.2.1', 80), 5)", "unreachable"),
    "hard link": (
        "import os; open('/opt/ml/model/a', 'w').close(); os.link('/opt/ml/model/a', '/opt/ml/model/b')",
        "hard links",
    ),
    "FIFO": ("import os; os.mkfifo('/opt/ml/model/pipe')", "'pipe' can't be published: it is a FIFO"),
    "symbolic link": (
        "import os; os.symlink('/etc/passwd', '/opt/ml/model/p')",
        "'p' can't be published: it is a symbolic link",
    ),
}
STEADY = ("100 GB of output", "never ends, on all cores", "memory")
TRIES = 3  # other work on the machine falls on one side of a ratio now and then


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRunner]:
    spool = tmp_path_factory.mktemp("runner") / "spool"
    with daemon(spool):
        yield LocalRunner(spool)


@contextmanager
def daemon(spool: Path, slots: int = 2) -> Iterator[subprocess.Popen[bytes]]:
    """The runner as a process of its own."""
    command = [sys.executable, "-m", "polyshare.jobs.local", "--spool", str(spool), "--cache", str(CACHE)]
    process = subprocess.Popen([*command, "--slots", str(slots)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def sklearn() -> str:
    reference = environment.resolve("uv:sklearn")
    environment.prepare(reference, CACHE)
    return reference


def training(platform: Platform, sklearn: str, program: bytes, wall: float = 8) -> Job:
    channels = {"train": {"d": b"1"}, "code": {"train.py": program}}
    limits = {"memory_bytes": 1024 * MIB, "disk_bytes": 2048 * MIB}
    return platform.add("train", channels, environment=sklearn, wall=wall, limits=limits)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_training_fails_with_its_reason(
    name: str, platform: Platform, sklearn: str, runner: LocalRunner
) -> None:
    program, reason = HOSTILE[name]
    hostile = training(platform, sklearn, program.encode(), wall=3 if "longer" in reason else 60)
    runner.submit(hostile)
    completion = platform.wait(hostile, 90)
    assert completion["outcome"] == "failed"
    assert reason in completion["reason"]


@pytest.mark.parametrize("name", STEADY)
def test_beside_a_hostile_training_another_and_an_upload_take_at_most_twice_their_time(
    name: str, platform: Platform, sklearn: str, runner: LocalRunner, tmp_path: Path
) -> None:
    def both() -> tuple[float, float]:
        honest = training(platform, sklearn, HONEST, wall=60)
        started = time.monotonic()
        runner.submit(honest)
        uploads = [_upload(platform.url, tmp_path) for _ in range(2)]
        assert platform.wait(honest)["outcome"] == "trained"
        return time.monotonic() - started, min(uploads)

    def measure() -> tuple[float, float]:
        alone = both()
        stop = threading.Event()

        def attack() -> None:
            while not stop.is_set():
                hostile = training(platform, sklearn, HOSTILE[name][0].encode(), wall=30)
                runner.submit(hostile)
                while hostile.id not in platform.completions and not stop.is_set():
                    time.sleep(0.05)
                runner.cancel(hostile.id)

        attacker = threading.Thread(target=attack)
        attacker.start()
        time.sleep(0.5)
        try:
            beside = both()
        finally:
            stop.set()
            attacker.join()
        return beside[0] / alone[0], beside[1] / alone[1]

    ratios = []
    for _ in range(TRIES):
        ratios.append(measure())
        print(f"{name}: job {ratios[-1][0]:.2f}x, upload {ratios[-1][1]:.2f}x")
        if max(ratios[-1]) <= 2:
            return
    raise AssertionError(f"slowed by {ratios}")


def test_jobs_outlive_a_killed_runner_and_end_once(sklearn: str, tmp_path: Path) -> None:
    with serving() as platform:
        _kill_and_go_on(platform, sklearn, tmp_path)


def test_a_second_runner_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    with daemon(tmp_path / "spool"):
        while not (tmp_path / "spool" / "running").is_dir():
            time.sleep(0.05)
        command = [sys.executable, "-m", "polyshare.jobs.local", "--spool", str(tmp_path / "spool"), "--cache", "x"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode != 0
    assert "another runner serves" in second.stderr


def _kill_and_go_on(platform: Platform, sklearn: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    runner = LocalRunner(spool)
    slow = b"import time, os\ntime.sleep(1.5)\nopen('/opt/ml/model/m', 'w').write('fine')"
    jobs = [training(platform, sklearn, slow, wall=60) for _ in range(3)]
    for job in jobs:
        runner.submit(job)
    with daemon(spool) as process:
        until = time.monotonic() + 20
        while "running" not in [stage for stage, _ in platform.told.get(jobs[0].id, [])]:
            assert time.monotonic() < until
            time.sleep(0.02)
        running = runner.state(jobs[0].id)
        assert running is not None
        assert running.state == RunState.RUNNING
        waiting = runner.state(jobs[2].id)
        assert waiting is not None
        assert waiting.position == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert platform.completions == {}
    with daemon(spool):
        for job in jobs:
            assert platform.wait(job)["outcome"] == "trained"
        until = time.monotonic() + 10
        while any(runner.state(job.id) for job in jobs) and time.monotonic() < until:
            time.sleep(0.05)
    assert not list(spool.glob("*.json"))
    assert list((spool / "work").iterdir()) == []


def _upload(url: str, folder: Path) -> float:
    """Seconds to write, hash and send 48 MiB, as a client does."""
    import hashlib

    started = time.monotonic()
    data = os.urandom(16 * MIB)
    with httpx.Client(trust_env=False) as client:
        for part in range(3):
            path = folder / f"part{part}"
            path.write_bytes(data)
            headers = {"x-amz-checksum-sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            client.put(f"{url}/upload/{part}", content=data, headers=headers, timeout=60).raise_for_status()
    return time.monotonic() - started
