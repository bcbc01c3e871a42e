"""A supervisor of a few child processes: starts them, waits until they answer, starts again what dies, ends all.

A child dies with the supervisor, however that ends (PR_SET_PDEATHSIG), and leads a process group of its own, so that
Ctrl-C reaches the supervisor alone and the order of ending is its choice. Use it from one thread: the kernel takes
the death of the thread that started a child for the death of its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polyshare.errors import PolyshareError, Unavailable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LARGEST_LOG = 8 * 1024 * 1024  # bytes; one older log is kept
_CALM = 30.0  # seconds of running after which a death counts as the first
_LONGEST_WAIT = 10.0  # seconds before another start
_CHECK_EVERY = 5.0
_HUNG_AFTER = 12  # failed checks in a row

Spawn = Callable[[Sequence[str], Mapping[str, str]], "subprocess.Popen[bytes]"]


@dataclass(frozen=True, slots=True)
class Service:
    """One child: how to start it, and when it is ready. `start` is given a function that starts a command."""

    name: str
    start: Callable[[Spawn], subprocess.Popen[bytes]]
    ready: Callable[[], bool]  # answers within seconds
    folder: Path = Path("/")  # where it runs
    patience: float = 60.0  # seconds to become ready
    stop_seconds: float = 10.0  # between being asked to end and being killed
    look: Callable[[subprocess.Popen[bytes]], None] = lambda process: None  # called often while it is ready
    stopping: Callable[[], None] = lambda: None  # called before it is asked to end


@dataclass(slots=True)
class _Child:
    service: Service
    process: subprocess.Popen[bytes]
    started: float
    ready: bool = False
    checked: float = 0.0
    failures: int = 0  # failed checks in a row
    deaths: int = 0  # in quick succession
    again: float | None = None  # when to start it anew


@dataclass(slots=True)
class Supervisor:
    """The children, in the order they were started."""

    log: Path
    on_change: Callable[[], None] = lambda: None  # a process id changed
    say: Callable[[str], None] = lambda text: None
    _children: dict[str, _Child] = field(default_factory=dict)

    def start(self, *services: Service) -> None:
        """Start services side by side and wait until all are ready; raises Unavailable with the end of the log."""
        for service in services:
            self._children[service.name] = _Child(service, self._spawn(service), time.monotonic())
        for service in services:
            child = self._children[service.name]
            deadline = time.monotonic() + service.patience
            while not _is_ready(child):
                if child.process.poll() is not None or time.monotonic() > deadline:
                    ended = child.process.poll()
                    what = "did not become ready" if ended is None else f"ended with status {ended}"
                    raise Unavailable(f"{service.name} {what}; the end of its log:\n{self.log_tail(service.name)}")
                time.sleep(0.03)
            child.ready, child.checked = True, time.monotonic()
        self.on_change()

    def tick(self) -> None:
        """Look after all children once: call it several times a second."""
        for child in self._children.values():
            now = time.monotonic()
            if child.again is not None:
                if now >= child.again:
                    self._start_again(child)
            elif child.process.poll() is not None:
                self._note_death(child, now)
            else:
                self._check(child, now)
        self._rotate()

    def stop(self, name: str) -> None:
        """End one child for good: asked first, killed if it does not."""
        child = self._children.pop(name, None)
        if child is None or child.process.poll() is not None:
            return
        child.service.stopping()
        _signal(child.process, signal.SIGTERM)
        try:
            child.process.wait(timeout=child.service.stop_seconds)
        except subprocess.TimeoutExpired:
            self.say(f"{name} does not end by itself and is killed")
        _kill_group(child.process)

    def stop_all(self) -> None:
        """End the children, the last started first."""
        for name in reversed(list(self._children)):
            self.stop(name)

    def pids(self) -> dict[str, int]:
        return {name: child.process.pid for name, child in self._children.items()}

    def log_tail(self, name: str, size: int = 2000) -> str:
        try:
            with (self.log / f"{name}.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return "(no log)"

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        def spawn(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
            with (self.log / f"{service.name}.log").open("ab") as log:
                return start_child(command, environ, folder=service.folder, output=log.fileno())

        return service.start(spawn)

    def _start_again(self, child: _Child) -> None:
        child.again, child.started, child.ready, child.failures = None, time.monotonic(), False, 0
        try:
            child.process = self._spawn(child.service)
        except (OSError, PolyshareError) as error:
            self.say(f"{child.service.name} can't be started: {error}")
            self._note_death(child, time.monotonic())
        self.on_change()

    def _note_death(self, child: _Child, now: float) -> None:
        _kill_group(child.process)
        child.deaths = 1 if now - child.started > _CALM else child.deaths + 1
        wait = 0.0 if child.deaths == 1 else min(0.25 * 2.0 ** (child.deaths - 2), _LONGEST_WAIT)
        child.again = now + wait
        self.say(f"{child.service.name} ended (status {child.process.returncode}); it is started again")

    def _check(self, child: _Child, now: float) -> None:
        if child.ready:
            child.service.look(child.process)
        if now - child.checked < (_CHECK_EVERY if child.ready else 0.1):
            return
        if _is_ready(child):
            child.ready, child.failures = True, 0
        elif child.ready:
            child.failures += 1
        child.checked = time.monotonic()
        late = not child.ready and now - child.started > child.service.patience
        if late or child.failures >= _HUNG_AFTER:
            self.say(f"{child.service.name} does not answer and is killed")
            _kill_group(child.process)

    def _rotate(self) -> None:
        """Children append to their log themselves, so it is copied and cut, not renamed."""
        for name in self._children:
            path = self.log / f"{name}.log"
            with contextlib.suppress(OSError):
                if path.stat().st_size > _LARGEST_LOG:
                    shutil.copyfile(path, path.with_suffix(".log.1"))
                    os.truncate(path, 0)


def start_child(
    command: Sequence[str], environ: Mapping[str, str], *, folder: Path, output: int
) -> subprocess.Popen[bytes]:
    """Start a command that dies with this thread and whose files are its owner's only."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        umask=0o077,
        preexec_fn=_Leash(os.getpid()),
    )


class _Leash:
    """What a child does before its program: it asks to be killed when its parent dies, and goes if that was before."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl

    def __call__(self) -> None:
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self._parent:
            os._exit(1)


def _is_ready(child: _Child) -> bool:
    return child.process.poll() is None and child.service.ready()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a child and of what it started in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
