"""A server that is down, a disk that is full: a clear error, nothing acknowledged is lost, and it works again after."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import PARTS, Machine, wait_until

MIB = 1024**2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "some"
    made.mkdir()
    (made / "data.bin").write_bytes(os.urandom(1000))
    return made


@pytest.mark.parametrize(
    ("part", "said"),
    [("functions", "is the stack running? polyshare up"), ("store", "object store"), ("runner", "")],
)
def test_while_a_part_is_down_it_is_named_and_afterwards_all_goes_on(
    stack: Machine, folder: Path, tmp_path: Path, part: str, said: str
) -> None:
    before = stack.json("dataset", "add", str(folder), "--name", f"before-{part}")["id"]
    (folder / "more").write_bytes(os.urandom(1000))
    with stack.without(part):
        done = stack.polyshare("dataset", "add", str(folder), "--name", f"meanwhile-{part}", expect=2 if said else 0)
        assert said in done.stderr
        assert part in _ailing(stack)
    _is_well_again(stack)
    if said:
        stack.polyshare("dataset", "add", str(folder), "--name", f"meanwhile-{part}")
    assert [asset.version for asset in stack.client().list(name=f"meanwhile-{part}").assets] == [1]
    _is_whole(stack, before, tmp_path / "before")


def test_while_the_chain_is_down_datasets_are_registered_and_anchored_afterwards(
    stack: Machine, folder: Path, tmp_path: Path
) -> None:
    stack.polyshare("dataset", "add", str(folder), "--name", "early")
    stack.polyshare("status", "local/early", "--follow")
    stack.polyshare("fetch", "local/early", "-o", str(tmp_path / "early"))
    with stack.without("chain"):
        registered = stack.json("dataset", "add", str(folder), "--name", "unanchored")
        assert not registered["anchored"]
        done = stack.polyshare("verify", str(tmp_path / "early"), expect=2)
        assert "can't decide: what is needed to know is missing" in done.stdout
    _is_well_again(stack)
    status = stack.json("status", registered["id"], "--follow")
    assert status["anchored"]
    _is_whole(stack, registered["id"], tmp_path / "unanchored")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Machine]:
    """A stack whose data folder is a disk of 700 MiB of its own."""
    data = tmp_path / "home" / "data"
    data.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=700m,mode=700", "none", str(data)]
    if subprocess.run(mount, capture_output=True, check=False, timeout=30).returncode:
        pytest.skip("a small disk can't be mounted here: that takes root")
    machine = Machine(tmp_path / "home")
    try:
        machine.up()
        yield machine
    finally:
        machine.clean()
        subprocess.run(["umount", "--lazy", str(data)], check=True, timeout=30)


def test_on_a_full_disk_nothing_acknowledged_is_lost(small_disk: Machine, folder: Path, tmp_path: Path) -> None:
    before = small_disk.json("dataset", "add", str(folder), "--name", "before")["id"]
    filler = small_disk.layout.data / "filler"
    (folder / "large").write_bytes(os.urandom(MIB) * 64)
    _fill(filler)
    acknowledged = [before]
    for name, path in (("large", folder), ("small", folder / "data.bin")):
        done = small_disk.polyshare("dataset", "add", str(path), "--name", name, expect=None)
        if done.returncode == 0:
            acknowledged.append(small_disk.client().list(name=name).assets[0].id)
        else:
            assert done.returncode == 2, done.stderr
            assert "disk" in done.stderr, done.stderr
    assert len(acknowledged) < 3, "64 MiB can't have been stored"
    assert "disk" in _ailing(small_disk)
    filler.unlink()
    _is_well_again(small_disk)
    for name, path in (("large", folder), ("small", folder / "data.bin")):
        small_disk.polyshare("dataset", "add", str(path), "--name", f"{name}-after")
        small_disk.polyshare("status", f"local/{name}-after", "--follow")
    for asset in acknowledged:
        _is_whole(small_disk, asset, tmp_path / asset)


def test_a_stack_does_not_start_on_a_full_disk_and_says_so(tmp_path: Path) -> None:
    data = tmp_path / "home" / "data"
    data.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(data)]
    if subprocess.run(mount, capture_output=True, check=False, timeout=30).returncode:
        pytest.skip("a small disk can't be mounted here: that takes root")
    try:
        said = Machine(tmp_path / "home").polyshare("up", "--detach", expect=2).stderr
        assert "free some space" in said
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True, timeout=30)


def _fill(filler: Path) -> None:
    """Leave 1 MiB."""
    with filler.open("wb") as file:
        file.write(bytes(1))
        free = shutil.disk_usage(filler).free - MIB
        os.posix_fallocate(file.fileno(), 0, free)


def _is_well_again(stack: Machine) -> None:
    wait_until(lambda: all(stack.part(part) for part in PARTS), 60, "not all parts run again")
    deadline = time.monotonic() + 120
    while ailing := {what: how for what, how in _ailing(stack).items() if what != "disk"}:  # a small one is always BAD
        assert time.monotonic() < deadline, f"not well again: {ailing}"
        time.sleep(0.5)


def _ailing(stack: Machine) -> dict[str, str]:
    """What the doctor finds wrong, and how."""
    found = json.loads(stack.polyshare("doctor", "--json", expect=None).stdout)["findings"]
    return {finding["what"]: finding["found"] for finding in found if not finding["well"]}


def _is_whole(stack: Machine, asset: str, out: Path) -> None:
    stack.polyshare("status", asset, "--follow")  # until it is anchored: it may have been cut off before
    stack.polyshare("fetch", asset, "-o", str(out))
    stack.polyshare("verify", str(out))
