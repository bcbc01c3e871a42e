"""Large and many files: in bounded memory, resumed where they were interrupted, and never sent twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from polyshare.api import InboxCredentials
from tests.e2e.machine import Machine, polyshare_command
from tests.faults.load import s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB, GIB = 1024**2, 1024**3
BLOBS = "polyshare-blobs"
MOST_MEMORY = 200 * MIB  # of the client


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Machine]:
    """A stack whose store is thrown away with the test: gigabytes should not stay."""
    machine = Machine(tmp_path / "home")
    machine.home.mkdir()
    try:
        machine.up()
        yield machine
    finally:
        machine.clean()
        shutil.rmtree(tmp_path)


def test_a_file_of_200_mib_goes_both_ways_in_bounded_memory(stack: Machine, tmp_path: Path) -> None:
    _goes_both_ways(stack, tmp_path, 200 * MIB)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_file_of_5_gib_goes_both_ways_in_bounded_memory(own_stack: Machine, tmp_path: Path) -> None:
    _goes_both_ways(own_stack, tmp_path, 5 * GIB)


@pytest.mark.timeout(900)
def test_10_000_small_files_go_both_ways(stack: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    for number in range(10_000):
        path = folder / f"{number % 100:02}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {number}\n")
    seconds, memory = _measured(stack, "dataset", "add", str(folder), "--name", "small")
    print(f"10,000 files registered in {seconds:.1f} s, {memory / MIB:.0f} MiB")
    assert memory <= MOST_MEMORY
    before = _stored(stack)
    stack.polyshare("dataset", "add", str(folder), "--name", "small-again")
    assert _stored(stack) == before
    seconds, memory = _measured(stack, "fetch", "local/small", "-o", str(tmp_path / "fetched"))
    print(f"10,000 files fetched in {seconds:.1f} s, {memory / MIB:.0f} MiB")
    assert memory <= MOST_MEMORY
    subprocess.run(["diff", "-rq", "-x", "polyshare.json", folder, tmp_path / "fetched"], check=True, timeout=120)


def test_what_is_there_is_not_sent_again_for_another_dataset(stack: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    _write(folder / "large", 40 * MIB, seed=1)
    (folder / "small").write_bytes(os.urandom(1000))
    stack.polyshare("dataset", "add", str(folder), "--name", "first")
    before = _stored(stack)
    (folder / "large").rename(folder / "renamed")
    (folder / "new").write_bytes(os.urandom(1000))
    said = stack.polyshare("dataset", "add", str(folder), "--name", "second").stderr
    assert "2 of 3 files are there already" in said
    after = _stored(stack)
    assert len(after) == len(before) + 1
    stack.polyshare("fetch", "local/second", "-o", str(tmp_path / "out"))
    stack.polyshare("verify", str(tmp_path / "out"))
    assert (tmp_path / "out" / "renamed").stat().st_size == 40 * MIB


@pytest.mark.parametrize(("ended_by", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_upload_goes_on_where_it_stopped(
    stack: Machine, tmp_path: Path, ended_by: signal.Signals, status: int
) -> None:
    name = f"interrupted-{ended_by.name.lower()}"
    _write(tmp_path / "large", 480 * MIB, seed=ended_by)
    command = ("dataset", "add", str(tmp_path / "large"), "--name", name)
    store, sent = _root(stack), dict[int, Any]()
    for _ in range(2):
        process = _start(stack, *command)
        enough = len(sent) + 3
        said = _interrupt_after(process, lambda enough=enough: len(_parts(store)) >= enough, ended_by)  # type: ignore[misc]
        assert process.returncode == status, said
        if ended_by == signal.SIGINT:
            assert "the same command again goes on where it stopped" in said
        now = _parts(store)
        assert 0 < len(now) < 30, "it should have been interrupted in the middle"
        assert {number: now[number] for number in sent} == sent, "parts that were there were sent again"
        sent = now
        time.sleep(1.1)  # the store tells times in seconds
    stack.polyshare(*command)
    versions = [asset.version for asset in stack.client().list(name=name).assets]
    assert versions == [1]
    stack.polyshare("fetch", f"local/{name}", "-o", str(tmp_path / "out"))
    subprocess.run(["cmp", tmp_path / "large", tmp_path / "out" / "large"], check=True, timeout=120)


def test_an_interrupted_fetch_goes_on_where_it_stopped(stack: Machine, tmp_path: Path) -> None:
    _write(tmp_path / "large", 480 * MIB, seed=77)
    stack.polyshare("dataset", "add", str(tmp_path / "large"), "--name", "fetched-twice")
    command = ("fetch", "local/fetched-twice", "-o", str(tmp_path / "out"))
    process = _start(stack, *command)
    said = _interrupt_after(process, lambda: _blocks(tmp_path / "out") > 100 * MIB, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, said
    assert not (tmp_path / "out" / "large").exists(), "a file is placed only when it verifies"
    stack.polyshare(*command)
    subprocess.run(["cmp", tmp_path / "large", tmp_path / "out" / "large"], check=True, timeout=120)


def _goes_both_ways(stack: Machine, folder: Path, size: int) -> None:
    path, out = folder / "large", folder / "out"
    _write(path, size, seed=size)
    seconds, memory = _measured(stack, "dataset", "add", str(path), "--name", f"of-{size}")
    print(f"{size / GIB:.2f} GiB registered in {seconds:.1f} s, {memory / MIB:.0f} MiB")
    assert memory <= MOST_MEMORY
    seconds, memory = _measured(stack, "fetch", f"local/of-{size}", "-o", str(out))
    print(f"{size / GIB:.2f} GiB fetched in {seconds:.1f} s, {memory / MIB:.0f} MiB")
    assert memory <= MOST_MEMORY
    subprocess.run(["cmp", path, out / "large"], check=True, timeout=300)


def _measured(stack: Machine, *command: str) -> tuple[float, int]:
    """Seconds, and the most memory that a command had, in bytes.

    Asked of a small process between: what a process starts with `exec` is counted at least as large as itself.
    """
    small = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); "
    small += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-S", "-c", small, polyshare_command(), *command],
        env=stack.environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.monotonic() - started, int(done.stdout) * 1024


def _start(stack: Machine, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [polyshare_command(), *command],
        env=stack.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _interrupt_after(process: subprocess.Popen[str], due: Any, number: signal.Signals) -> str:
    deadline = time.monotonic() + 180
    while process.poll() is None and not due():
        assert time.monotonic() < deadline, "it did not get that far"
        time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert "Traceback" not in said
    return said


def _write(path: Path, size: int, *, seed: int) -> None:
    """Bytes of which no two parts are the same."""
    block = bytearray((seed * 31 + number) % 251 for number in range(997)) * (MIB // 997 + 1)
    with path.open("wb") as file:
        for number in range(size // MIB):
            block[:8] = number.to_bytes(8, "big")
            file.write(memoryview(block)[:MIB])


def _root(stack: Machine) -> S3Client:
    secrets = stack.layout.secrets
    return s3(
        InboxCredentials(
            endpoint=stack.state["store"],
            region="us-east-1",
            bucket=BLOBS,
            prefix="",
            access_key=(secrets / "s3_access_key").read_text().strip(),
            secret_key=(secrets / "s3_secret_key").read_text().strip(),
        )
    )


def _stored(stack: Machine) -> dict[str, Any]:
    """The objects that hold files, with when they were put."""
    pages = _root(stack).get_paginator("list_objects_v2").paginate(Bucket=BLOBS)
    return {item["Key"]: item["LastModified"] for page in pages for item in page.get("Contents", ())}


def _parts(store: S3Client) -> dict[int, Any]:
    """The parts of the one upload under way, with when each was put."""
    uploads = store.list_multipart_uploads(Bucket=BLOBS).get("Uploads", [])
    found: dict[int, Any] = {}
    for upload in uploads:
        listed = store.list_parts(Bucket=BLOBS, Key=upload["Key"], UploadId=upload["UploadId"])
        found |= {part["PartNumber"]: part["LastModified"] for part in listed.get("Parts", ())}
    return found


def _blocks(folder: Path) -> int:
    """Bytes that a folder's files take on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
