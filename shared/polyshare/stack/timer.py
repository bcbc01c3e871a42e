"""What the supervisor does on a timer: it has sweep called, and the embedded chain checkpointed."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable

from polyshare.events import SWEEP_DUE, Event

_TIMEOUT = 120.0  # seconds that a sweep may take


class Timer:
    """Calls functions every so often, each in a thread of its own and never twice at a time."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def every(self, seconds: float, act: Callable[[], object]) -> None:
        def run() -> None:
            while not self._over.wait(seconds):
                act()

        thread = threading.Thread(target=run, name="timer", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=5)


def post_sweep(functions_url: str, token: str) -> bool:
    """Tell the sweep function that it is due; False if it did not take it, which the next time mends."""
    headers, body = Event(SWEEP_DUE, str(uuid.uuid4()), time=time.time()).structured()
    headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(functions_url.format(function="sweep"), body, headers, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            return bool(200 <= answer.status < 300)
    except (OSError, urllib.error.URLError):
        return False
