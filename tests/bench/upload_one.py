"""One upload by one client, measured from inside: `upload` starts it, and says in POLYSHARE_BENCH what to do."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class _Counted:
    """A SHA-256 that counts the bytes it is given."""

    lock = threading.Lock()
    bytes = 0

    def __init__(self, data: bytes = b"", **_options: bool) -> None:
        self._state = _sha256()
        self.update(data)

    def update(self, data: bytes) -> None:
        with _Counted.lock:
            _Counted.bytes += memoryview(data).nbytes
        self._state.update(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


_sha256 = hashlib.sha256


def main() -> None:
    asked = json.loads(os.environ["POLYSHARE_BENCH"])
    if asked["count"]:
        hashlib.sha256 = _Counted  # type: ignore[assignment,misc]  # before anything imports it by name
    file = Path(asked["file"])
    upload = _ours(asked, file) if asked["who"] == "ours" else _boto3(asked, file)
    counted, cpu, wall = _Counted.bytes, time.process_time(), time.perf_counter()
    upload()
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**found, "hashed": (_Counted.bytes - counted) / file.stat().st_size}))


def _ours(asked: dict[str, Any], file: Path) -> Callable[[], object]:
    from polyshare.client import Client, Profile

    client = Client(Profile.read({"POLYSHARE_CONFIG": asked["profile"]}))
    return lambda: client.add_dataset(file)


def _boto3(asked: dict[str, Any], file: Path) -> Callable[[], object]:
    from tests.bench.stack import s3_client

    client = s3_client(asked["s3"])
    return lambda: client.upload_file(str(file), asked["bucket"], f"{time.time_ns()}/{file.name}")


if __name__ == "__main__":
    main()
