"""Telling complete_job how far a job is, beside what the job does."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType

from polyshare.errors import PolyshareError
from polyshare.jobs.remote import Fenced, Remote

_TOLD = 1.0  # seconds between reports of the log
_ALIVE = 10.0  # seconds after which one is made though nothing happened


class Reporter:
    """Tells complete_job how far the job is, from a thread of its own; learns from it when the job is cancelled.

    Each stage is told at once and in order, the log's tail at most once in `_TOLD`.
    """

    def __init__(self, remote: Remote) -> None:
        self.fenced = threading.Event()
        self._remote = remote
        self._stage, self._tail = "preparing", ""
        self._ahead: deque[str] = deque()  # stages not told yet
        self._changed = threading.Condition()
        self._news = self._over = False
        self._thread = threading.Thread(target=self._loop, name="reporter", daemon=True)

    def stage(self, stage: str) -> None:
        with self._changed:
            self._ahead.append(stage)
            self._changed.notify()

    def say(self, tail: str) -> None:
        """The log's tail."""
        with self._changed:
            self._tail = tail.encode()[-16_384:].decode(errors="ignore")
            self._news = True
            self._changed.notify()

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join(timeout=60)

    def _loop(self) -> None:
        while self._due():
            try:
                self._remote.progress(self._stage, self._tail)
            except Fenced:
                self.fenced.set()
                return
            except PolyshareError:
                pass  # it is told again; the job itself does not need it

    def _due(self) -> bool:
        """Wait until there is something to tell; False when all is told and the job is over."""
        told = time.monotonic()
        with self._changed:
            while not self._ahead and not self._over:
                left = told + (_TOLD if self._news else _ALIVE) - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if self._ahead:
                self._stage = self._ahead.popleft()
            elif self._over:
                return False
            self._news = False
            return True
