"""The supervisor: what dies is started again, what is stubborn is killed, and nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from polyshare.errors import Unavailable
from polyshare.stack.processes import Service, Supervisor


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.stop_all()


def service(
    command: str, *, name: str = "part", ready: Callable[[], bool] = lambda: True, patience: float = 10
) -> Service:
    return Service(
        name,
        lambda spawn: spawn(["/bin/sh", "-c", command], dict(os.environ)),
        ready=ready,
        patience=patience,
        stop_seconds=0.5,
    )


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_dies_is_started_again_each_time_a_little_later(supervisor: Supervisor) -> None:
    changes: list[int] = []
    supervisor.on_change = lambda: changes.append(supervisor.pids()["part"])
    supervisor.start(service("exec sleep 100"))
    starts = []
    for _ in range(4):
        died, old = time.monotonic(), supervisor.pids()["part"]
        os.kill(old, signal.SIGKILL)

        def again(old: int = old) -> bool:
            supervisor.tick()
            return supervisor.pids()["part"] != old

        until(again)
        starts.append(time.monotonic() - died)
    assert starts[0] < 0.25 < starts[2] < starts[3]
    assert len(set(changes)) == 5


def test_what_does_not_become_ready_is_told_with_its_log(supervisor: Supervisor) -> None:
    with pytest.raises(Unavailable, match="ended with status 3; the end of its log:\nthe reason"):
        supervisor.start(service("echo the reason; exit 3", ready=lambda: False))
    with pytest.raises(Unavailable, match="other did not become ready"):
        supervisor.start(service("exec sleep 100", name="other", ready=lambda: False, patience=0.2))


def test_what_never_becomes_ready_again_is_killed_and_tried_anew(supervisor: Supervisor) -> None:
    healthy = [True]
    supervisor.start(service("exec sleep 100", ready=lambda: healthy[0], patience=0.3))
    first = supervisor.pids()["part"]
    healthy[0] = False
    os.kill(first, signal.SIGKILL)
    seen: set[int] = set()

    def tried_twice() -> bool:
        supervisor.tick()
        seen.add(supervisor.pids()["part"])
        return len(seen - {first}) >= 2

    until(tried_twice)


def test_what_ignores_being_asked_to_end_is_killed_with_its_children(supervisor: Supervisor) -> None:
    supervisor.start(service("trap '' TERM; sleep 100 & while :; do sleep 1; done"))
    process = psutil.Process(supervisor.pids()["part"])
    until(lambda: len(process.children()) > 0)
    family = [process, *process.children(recursive=True)]
    supervisor.stop("part")
    assert not psutil.wait_procs(family, timeout=5)[1]


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from polyshare.stack.processes import Service, Supervisor\n"
        "supervisor = Supervisor(Path(sys.argv[1]))\n"
        "start = lambda spawn: spawn(['sleep', '100'], {'PATH': '/usr/bin:/bin'})\n"
        "supervisor.start(Service('part', start, lambda: True))\n"
        "print(supervisor.pids()['part'], flush=True); time.sleep(100)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        assert not psutil.wait_procs([child], timeout=5)[1]
    finally:
        parent.kill()
        parent.wait(timeout=10)


def test_a_log_that_grows_is_cut_and_the_older_part_kept(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(service("head -c 9000000 /dev/zero | tr '\\0' 'x'; echo; exec sleep 100"))
    log = tmp_path / "part.log"
    until(lambda: log.stat().st_size > 9_000_000)
    supervisor.tick()
    assert log.stat().st_size == 0
    assert (tmp_path / "part.log.1").stat().st_size > 9_000_000


def test_files_of_a_child_are_its_owners_only(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(service(f"touch {tmp_path}/made; exec sleep 100"))
    until((tmp_path / "made").exists)
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0
