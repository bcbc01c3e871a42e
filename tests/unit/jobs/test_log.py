from __future__ import annotations

import os
import threading
from pathlib import Path

from polyshare.jobs.log import Log


def written(path: Path, data: bytes, limit: int) -> tuple[bytes, str]:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=write)
    with Log(path, limit) as log:
        thread.start()
        while thread.is_alive():
            log.read(reading, 0.05)
        log.drain(reading)
        tail = log.tail()
    os.close(reading)
    return path.read_bytes(), tail


def test_a_short_log_is_kept_whole(tmp_path: Path) -> None:
    assert written(tmp_path / "log", b"one\ntwo\n", 1000) == (b"one\ntwo\n", "one\ntwo\n")


def test_of_a_long_log_head_and_tail_are_kept_and_the_gap_is_told(tmp_path: Path) -> None:
    data = b"".join(b"line %d\n" % i for i in range(100_000))
    kept, tail = written(tmp_path / "log", data, 200_000)
    assert kept.startswith(data[:100_000])
    assert kept.endswith(data[-100_000:])
    assert "bytes left out" in kept.decode()
    assert len(kept) < 200_000 + 64 * 1024 + 100
    assert tail.endswith("line 99999\n")
    assert len(tail) <= 16 * 1024


def test_the_tail_of_what_fits_the_head_is_shown_too(tmp_path: Path) -> None:
    _, tail = written(tmp_path / "log", b"x" * 100 + b"\nlast", 100_000)
    assert tail.endswith("\nlast")
