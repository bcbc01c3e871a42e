"""A log of bounded size: the first half of the limit and the last half, whatever was printed between."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from pathlib import Path
from types import TracebackType

_TAIL = 16 * 1024  # bytes shown while it runs
_RATE = 8 * 1024**2  # bytes a second read once the head is full, so that printing without end costs the machine little
_PIPE = 64 * 1024


class Log:
    """Reads a descriptor and keeps head and tail; the file is complete when the log is closed."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._room = limit - limit // 2
        self._keep = limit // 2
        self._chunks: deque[bytes] = deque()
        self._kept = 0
        self._dropped = 0
        self._after: float = 0
        self.news = False

    def __enter__(self) -> Log:
        self._file = open(self._path, "wb", opener=lambda path, flags: os.open(path, flags, 0o600))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._dropped:
            self._file.write(f"\n… {self._dropped} bytes left out …\n".encode())
        self._file.write(b"".join(self._chunks))
        self._file.close()

    def read(self, fd: int, seconds: float, *, keep: bool = True) -> None:
        """Take what comes within about `seconds`; without `keep`, throw it away so that the writer can end."""
        until = time.monotonic() + seconds
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            pause = self._after - time.monotonic()
            if pause > 0 and keep:
                time.sleep(min(pause, left))
                continue
            if not poller.poll(left * 1000):
                return
            data = os.read(fd, _PIPE)
            if not data:  # all writers closed it, though some process may live on
                time.sleep(min(left, 0.02))
                return
            if keep:
                self.add(data)

    def drain(self, fd: int) -> None:
        """Take what is still in the pipe when all writers are gone: at most a pipe's capacity."""
        os.set_blocking(fd, False)
        try:
            for _ in range(32):
                data = os.read(fd, _PIPE)
                if not data:
                    return
                self.add(data)
        except BlockingIOError:
            return

    def tail(self) -> str:
        """The last 16 KiB, from the start of a line where there is one."""
        self.news = False
        data = b""
        for chunk in reversed(self._chunks):
            data = chunk + data
            if len(data) >= _TAIL:
                break
        if len(data) < _TAIL and not self._dropped:
            self._file.flush()
            size = self._file.tell()
            with open(self._path, "rb") as head:
                head.seek(max(0, size - (_TAIL - len(data))))
                data = head.read(_TAIL) + data
        data = data[-_TAIL:]
        if len(data) == _TAIL and b"\n" in data[:-1]:
            data = data.partition(b"\n")[2]
        return data.decode(errors="replace")

    def last_line(self) -> str:
        """The last line that says something, shortened."""
        lines = [line.strip() for line in self.tail().splitlines() if line.strip()]
        return lines[-1][:500] if lines else ""

    def add(self, data: bytes) -> None:
        """Take what was read elsewhere."""
        self.news = True
        if self._room:
            self._file.write(data[: self._room])
            data, self._room = data[self._room :], max(0, self._room - len(data))
        if not data:
            return
        self._after = max(self._after, time.monotonic()) + len(data) / _RATE
        self._chunks.append(data)
        self._kept += len(data)
        while self._kept - len(self._chunks[0]) >= self._keep:
            gone = self._chunks.popleft()
            self._kept -= len(gone)
            self._dropped += len(gone)
