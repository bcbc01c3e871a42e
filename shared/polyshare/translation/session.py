"""A program in a sandbox that is asked several things, by files in a folder that it may only read.

Where two runs can go on side by side the program is started once, and loads what it needs while others work. Where they
can't (on a cluster a run is a pod, and a second one may find no room beside the first) it is started for each request.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from polyshare.errors import Invalid
from polyshare.translation import received

_PAUSE = 0.01  # seconds between looks for an answer

# Runs the program on a folder of requests and an out folder, until it ends by itself or the function says that it is
# over; raises what its end comes to, if that is no success.
Start = Callable[[Path, Path, Callable[[], bool]], None]


class Session:
    """Use as a context: leaving it ends the program, whatever it is doing.

    `most` bounds the bytes of an answer's files, by suffix. With `replays`, a program that is started anew is given all
    earlier requests again, for it builds on them.
    """

    def __init__(
        self, start: Start, folder: Path, most: Mapping[str, int], *, beside: bool, replays: bool = False
    ) -> None:
        self._start, self._folder, self._most = start, folder, most
        self._beside, self._replays = beside, replays
        self._requests: list[Mapping[str, Path]] = []
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None

    def __enter__(self) -> Session:
        self._folder.mkdir()
        if self._beside:
            self._running = self._pool.submit(self._start, *self._folders("live"), self._over.is_set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._pool.shutdown()

    def end(self) -> None:
        """Nothing more is asked: end the program, without waiting until it has ended."""
        self._over.set()

    def ask(self, files: Mapping[str, Path], wanted: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Path]:
        """Give one request's files and take its answer's, both by suffix: `<number>.<suffix>`.

        The last one given, and the last one wanted, show that the others are there. A suffix that starts with `/` is a
        file for all requests, by its name. Raises what the program's end comes to, and Invalid where an answer is not
        what it must be.
        """
        number = len(self._requests)
        self._requests.append(files)
        if self._running is not None:
            position, out = number, self._folder / "live-out"
            _give(self._folder / "live-requests", number, files)
            self._wait(self._running, out / f"{number}.{wanted[-1]}")
        else:
            requests, out = self._folders(str(number))
            given = self._requests if self._replays else [files]
            position = len(given) - 1
            for index, one in enumerate(given):
                _give(requests, index, one)
            (requests / "end").touch()
            self._start(requests, out, self._over.is_set)
        taken = self._folder / f"{number}-taken"
        taken.mkdir()
        there = [suffix for suffix in optional if os.path.lexists(out / f"{position}.{suffix}")]
        return {
            suffix: received.copy(out / f"{position}.{suffix}", taken / suffix, self._most[suffix])
            for suffix in (*there, *wanted)
        }

    def _folders(self, name: str) -> tuple[Path, Path]:
        requests, out = self._folder / f"{name}-requests", self._folder / f"{name}-out"
        requests.mkdir()
        out.mkdir()
        return requests, out

    def _wait(self, running: Future[None], answer: Path) -> None:
        while not os.path.lexists(answer):
            if running.done():
                running.result()
                if not os.path.lexists(answer):
                    raise Invalid("it ended without an answer")
            time.sleep(_PAUSE)


def _give(requests: Path, number: int, files: Mapping[str, Path]) -> None:
    for suffix, path in files.items():
        target = requests / (suffix[1:] if suffix.startswith("/") else f"{number}.{suffix}")
        if not target.exists():
            shutil.copyfile(path, requests / ".part")
            (requests / ".part").rename(target)  # in its place only when it is whole
