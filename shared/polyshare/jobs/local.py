"""The local runner: a spool folder that submitting writes to, and a daemon that runs what is in it, in that order.

`python -m polyshare.jobs.local --spool DIR --cache DIR` is the daemon. Submitting works while it is down. Killed, it
runs what was unfinished again; sandboxes die with it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import httpx

from polyshare.errors import Conflict, Invalid, Unavailable
from polyshare.jobs import container, scratch
from polyshare.jobs.job import Job, RunnerState, RunState
from polyshare.jobs.sandbox import Sandbox, choose
from polyshare.jobs.steps import Place, perform

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_POLL = 0.1  # seconds between looks at the spool
_SLOWEST_RETRY = 60.0
_log = logging.getLogger("polyshare.runner")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A job in the spool."""

    job: Job
    submitted: float
    path: Path


class LocalRunner:
    """The runner's port on a spool folder. The folder is ours alone: it holds the jobs' tokens."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool

    def submit(self, job: Job) -> None:
        """See job.Runner. Raises Invalid for an id that can't be a file's name, Unavailable when the disk is full."""
        path = _path(self._spool, job.id, job.attempt)
        document = {**asdict(job), "requires": dict(job.requires), "submitted": time.time()}
        temporary = self._spool / f".new-{secrets.token_hex(8)}"
        try:
            _make(self._spool)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # submitted before
                os.link(temporary, path)
            _sync(self._spool)
        except OSError as error:
            raise Unavailable(f"the runner's spool {self._spool} can't be written: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def cancel(self, job_id: str) -> None:
        """See job.Runner."""
        for path in self._spool.glob(f"{_checked(job_id)}.*.json"):
            path.unlink(missing_ok=True)

    def state(self, job_id: str) -> RunnerState | None:
        """See job.Runner."""
        mine = [entry for entry in _entries(self._spool) if entry.job.id == _checked(job_id)]
        if not mine:
            return None
        newest = max(mine, key=lambda entry: entry.job.attempt)
        running = set(os.listdir(self._spool / "running")) if (self._spool / "running").is_dir() else set()
        if newest.path.stem in running:
            return RunnerState(RunState.RUNNING)
        ahead = [e for e in _entries(self._spool) if e.path.stem not in running and _order(e) < _order(newest)]
        return RunnerState(RunState.QUEUED, len(ahead) + 1)


class Daemon:
    """Runs what is in a spool, `slots` at a time, each on cores of its own as far as there are."""

    def __init__(self, spool: Path, cache: Path, slots: int | None = None) -> None:
        self._spool, self._cache = spool, cache
        self._cores = sorted(os.sched_getaffinity(0))
        self._slots = slots or max(2, len(self._cores) - 1)
        self._owner = hashlib.sha256(str(spool.resolve()).encode()).hexdigest()[:16]
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[str, tuple[int, _Entry]] = {}  # spool name → slot
        self._later: dict[str, tuple[float, float]] = {}  # spool name → when to try again, last pause
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Serve until stop() is called; raises Conflict if another daemon serves this spool."""
        _make(self._spool)
        with open(self._spool / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another runner serves {self._spool}: stop it first") from error
            self._clean()
            with httpx.Client(limits=httpx.Limits(max_connections=8 * self._slots), trust_env=False) as client:
                while not self._stop.is_set():
                    self._look(client)
                    self._stop.wait(_POLL)
                for thread in self._threads:
                    thread.join(timeout=30)

    def stop(self) -> None:
        """End soon: running jobs are killed and stay in the spool."""
        self._stop.set()

    def _clean(self) -> None:
        """Remove what a killed daemon left; its bubblewraps died with it, containers do not."""
        container.remove_leftovers(self._owner)
        for folder in ("work", "running"):
            if (self._spool / folder).is_dir():
                scratch.remove(self._spool / folder)
            (self._spool / folder).mkdir(mode=0o700)
        for path in self._spool.glob(".new-*"):
            path.unlink(missing_ok=True)

    def _look(self, client: httpx.Client) -> None:
        entries = sorted(_entries(self._spool), key=_order)
        newest: dict[str, int] = {}
        for entry in entries:
            newest[entry.job.id] = max(entry.job.attempt, newest.get(entry.job.id, 0))
        for entry in entries:
            name = entry.path.stem
            if entry.job.attempt < newest[entry.job.id] or time.time() > entry.job.deadline:
                entry.path.unlink(missing_ok=True)  # fenced, or given up: a running one sees that it is gone
                continue
            with self._lock:
                free = [slot for slot in range(self._slots) if slot not in {s for s, _ in self._running.values()}]
                if not free:
                    return
                if name in self._running or self._later.get(name, (0, 0))[0] > time.monotonic():
                    continue
                self._running[name] = (free[0], entry)
            (self._spool / "running" / name).touch()
            thread = threading.Thread(target=self._work, args=(entry, free[0], client), name=name)
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def _work(self, entry: _Entry, slot: int, client: httpx.Client) -> None:
        name = entry.path.stem
        work = self._spool / "work" / name

        def cancelled() -> bool:
            return self._stop.is_set() or not entry.path.exists()

        try:
            work.mkdir(mode=0o700)
            place = Place(work, self._cache, self._cores_of(slot), self._sandbox)
            perform(entry.job, client, place, cancelled=cancelled)
            if not self._stop.is_set():
                entry.path.unlink(missing_ok=True)
            self._later.pop(name, None)
        except Exception as error:  # whatever it is, others must run; it is tried again until its deadline
            pause = min(2 * self._later.get(name, (0, 1.0))[1], _SLOWEST_RETRY)
            self._later[name] = (time.monotonic() + pause, pause)
            expected = isinstance(error, Unavailable)
            _log.log(logging.WARNING, "job %s: %s; again in %.0f s", name, error, pause, exc_info=not expected)
        finally:
            try:
                scratch.remove(work)
            except Unavailable:
                _log.exception("job %s", name)
            (self._spool / "running" / name).unlink(missing_ok=True)
            with self._lock:
                del self._running[name]

    def _cores_of(self, slot: int) -> frozenset[int]:
        """Slot by slot a core each, so that jobs do not slow each other; they are nicer than what runs beside them."""
        share = max(1, len(self._cores) // self._slots)
        start = slot * share % len(self._cores)
        return frozenset(self._cores[start : start + share])

    def _sandbox(self, reference: str) -> Sandbox:
        return container.probe(self._owner) if reference.startswith("oci:") else choose(reference)


def main() -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Run the jobs of a spool folder.")
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="prepared environments")
    parser.add_argument("--slots", type=int, help="jobs at a time")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log presigned URLs
    os.umask(0o022)  # what is mounted in a sandbox is read there by another uid; the spool above it is ours alone
    daemon = Daemon(chosen.spool, chosen.cache, chosen.slots)

    def end(_number: int, _frame: FrameType | None) -> None:
        daemon.stop()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    daemon.run()


def _entries(spool: Path) -> Iterator[_Entry]:
    for path in spool.glob("*.*.json"):
        try:
            document = json.loads(path.read_bytes())
            submitted = document.pop("submitted")
            yield _Entry(Job(**document), submitted, path)
        except FileNotFoundError:
            continue  # finished meanwhile
        except (ValueError, TypeError, KeyError):
            _log.warning("%s is not a job: remove it", path)


def _order(entry: _Entry) -> tuple[float, str]:
    return entry.submitted, entry.path.stem


def _path(spool: Path, job_id: str, attempt: int) -> Path:
    return spool / f"{_checked(job_id)}.{int(attempt)}.json"


def _checked(job_id: str) -> str:
    if not _ID.fullmatch(job_id):
        raise Invalid(f"{job_id[:100]!r} is not a job's id")
    return job_id


def _make(spool: Path) -> None:
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    spool.chmod(0o700)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


if __name__ == "__main__":
    main()
