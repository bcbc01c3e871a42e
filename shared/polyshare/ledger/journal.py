"""The journal of the embedded chain: every signed transaction, on disk before it is sent.

One line each: sender, nonce, transaction hash, raw bytes, in hexadecimal. A line torn by a crash does not match its
hash and is passed over; its transaction was never sent.
"""

from __future__ import annotations

import collections
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from polyshare.metadata import keccak256


@dataclass(frozen=True, slots=True)
class Entry:
    sender: bytes
    nonce: int
    hash: bytes
    raw: bytes = field(repr=False)


class Journal:
    """An append-only file, shared by processes: who holds its lock is the only one that sends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._noted: collections.deque[bytes] = collections.deque(maxlen=256)

    @contextmanager
    def noting(self, sender: bytes, nonce: int, raw: bytes) -> Iterator[None]:
        """Write a transaction down, synced, then hold the lock while the body sends it: so the order is the same."""
        digest = keccak256(raw)
        with self.locked() as descriptor:
            if digest not in self._noted:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                line = f"{sender.hex()} {nonce} {digest.hex()} {raw.hex()}\n".encode()
                _write_all(descriptor, b"\n" * torn + line)
                os.fsync(descriptor)
                self._noted.append(digest)
            yield

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Keep everybody from sending; yields the file's descriptor."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def read(self, offset: int = 0) -> Iterator[Entry]:
        """What was written down after the first `offset` bytes, in order."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                entry = _parse(line)
                if entry is not None:
                    yield entry


def _parse(line: bytes) -> Entry | None:
    try:
        sender, nonce, digest, raw = line.decode("ascii").split()
        entry = Entry(bytes.fromhex(sender), int(nonce), bytes.fromhex(digest), bytes.fromhex(raw))
    except ValueError:
        return None
    return entry if keccak256(entry.raw) == entry.hash else None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
