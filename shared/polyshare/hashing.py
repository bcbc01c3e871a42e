"""Digests of files: SHA-256 in the composite form of S3, one cryptographic pass a byte, on all cores.

A file is cut in N parts of `part_size(size)` bytes. With N = 1 its digest is sha256(bytes); with more it is sha256 of
the part digests in order, as S3 computes `ChecksumSHA256` of a multipart upload. So the digest is a pure function of
the bytes and is what the store itself computes and checks.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from polyshare.errors import Invalid, Mismatch

SMALLEST_PART = 16 * 1024 * 1024
MOST_PARTS = 10_000  # S3's limit
LARGEST_FILE = 5 * 1024**4  # S3's limit, in bytes
_READ = 1024 * 1024  # bytes read at once: small enough to stay in a core's cache until it is hashed
_FORM = re.compile(r"sha256(?:-([1-9][0-9]{0,4}))?:([0-9a-f]{64})")


def part_size(size: int) -> int:
    """Bytes of each part (but the last) of a file of `size` bytes: 16 MiB, doubled until there are at most 10,000."""
    part = SMALLEST_PART
    while size > part * MOST_PARTS:
        part *= 2
    return part


def part_count(size: int) -> int:
    """Into how many parts a file of `size` bytes is cut: at least one, also when it is empty."""
    return max(1, -(-size // part_size(size)))


def part_range(size: int, part: int) -> tuple[int, int]:
    """First byte and length of part `part` (counted from 1) of a file of `size` bytes."""
    step = part_size(size)
    start = (part - 1) * step
    return start, min(step, size - start)


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """What a file's bytes are: compared as (size, parts, sha256), never the hash alone.

    Alone it would collide: a file made of part digests has the hash of the file they are the parts of.
    """

    size: int
    parts: int
    sha256: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.size <= LARGEST_FILE:
            raise Invalid(f"a file of {self.size} bytes can't be stored: the limit is {LARGEST_FILE}")
        if len(self.sha256) != 32:
            raise Invalid(f"a SHA-256 digest has 32 bytes, not {len(self.sha256)}")
        if self.parts != part_count(self.size):
            raise Invalid(f"a file of {self.size} bytes is hashed in {part_count(self.size)} parts, not {self.parts}")

    @classmethod
    def parse(cls, text: str, size: int) -> Digest:
        """Read `sha256:<hex>` or `sha256-<N>:<hex>` of a file of `size` bytes; raises Invalid."""
        form = _FORM.fullmatch(text)
        if form is None:
            raise Invalid(
                f"{text[:100]!r} is not a digest: write sha256:<64 hex digits> or sha256-<parts>:<64 hex digits>"
            )
        if form[1] == "1":
            raise Invalid("a digest of one part is written sha256:<hex>, without the -1")
        return cls(size, int(form[1] or 1), bytes.fromhex(form[2]))

    @classmethod
    def of_parts(cls, size: int, parts: Sequence[bytes]) -> Digest:
        """The digest of a file of `size` bytes with these part digests; raises Invalid on a wrong count."""
        if len(parts) != part_count(size):
            raise Invalid(f"a file of {size} bytes has {part_count(size)} part digests, not {len(parts)}")
        return cls(size, len(parts), parts[0] if len(parts) == 1 else hashlib.sha256(b"".join(parts)).digest())

    def __str__(self) -> str:
        return f"sha256:{self.sha256.hex()}" if self.parts == 1 else f"sha256-{self.parts}:{self.sha256.hex()}"

    def check_parts(self, parts: Sequence[bytes]) -> None:
        """Raises Mismatch unless these part digests hash to this digest."""
        if Digest.of_parts(self.size, parts) != self:
            raise Mismatch(f"the {len(parts)} part digests do not hash to {self}")


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file's digest and the digests of its parts, in order."""

    digest: Digest
    parts: tuple[bytes, ...]


def digest_bytes(data: bytes) -> Digest:
    """The digest of bytes held in memory."""
    parts = [
        hashlib.sha256(data[s : s + n]).digest()
        for s, n in (part_range(len(data), p + 1) for p in range(part_count(len(data))))
    ]
    return Digest.of_parts(len(data), parts)


def hash_file(path: Path, *, on_bytes: Callable[[int], None] = lambda n: None) -> Hashed:
    """Hash one file on all cores; raises Mismatch if it changes while it is read."""
    return next(hash_files([path], on_bytes=on_bytes))


def hash_files(
    paths: Iterable[Path], *, workers: int | None = None, on_bytes: Callable[[int], None] = lambda n: None
) -> Iterator[Hashed]:
    """Hash files on all cores, yielding in order; memory stays at 1 MiB a worker whatever the files' size.

    `on_bytes` is called from the workers with the bytes hashed since its last call.
    """
    workers = workers or os.cpu_count() or 1
    files = [(path, os.stat(path)) for path in paths]
    tasks = list(_tasks([(path, stat.st_size) for path, stat in files]))
    with ExitStack() as stack:
        each: Callable[..., Iterator[list[bytes]]] = map  # a pool costs more than hashing one small file
        if len(tasks) > 1:
            each = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="hash")).map
        done = (digest for batch in each(lambda task: _hash_task(task, on_bytes), tasks) for digest in batch)
        for path, stat in files:
            parts = tuple(next(done) for _ in range(part_count(stat.st_size)))
            now = os.stat(path)
            if (now.st_size, now.st_mtime_ns) != (stat.st_size, stat.st_mtime_ns):
                raise Mismatch(f"{path} changed while it was hashed: try again when nothing writes to it")
            yield Hashed(Digest.of_parts(stat.st_size, parts), parts)


def _tasks(files: list[tuple[Path, int]]) -> Iterator[list[tuple[Path, int, int]]]:
    """Pieces of work of about one part each: many small files together, a large file part by part."""
    batch: list[tuple[Path, int, int]] = []
    weight = 0
    for path, size in files:
        for part in range(1, part_count(size) + 1):
            start, length = part_range(size, part)
            batch.append((path, start, length))
            weight += length + 65_536  # opening a file costs about as much as hashing this many bytes
            if weight >= SMALLEST_PART:
                yield batch
                batch, weight = [], 0
    if batch:
        yield batch


def _hash_task(task: list[tuple[Path, int, int]], on_bytes: Callable[[int], None]) -> list[bytes]:
    buffer = memoryview(bytearray(min(_READ, max((length for _, _, length in task), default=0) or 1)))
    return [_hash_range(path, start, length, buffer, on_bytes) for path, start, length in task]


def _hash_range(path: Path, start: int, length: int, buffer: memoryview, on_bytes: Callable[[int], None]) -> bytes:
    state = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while length > 0:
            read = os.preadv(fd, [buffer[: min(length, len(buffer))]], start)
            if read == 0:
                raise Mismatch(f"{path} became shorter while it was hashed: try again when nothing writes to it")
            state.update(buffer[:read])
            on_bytes(read)
            start, length = start + read, length - read
    finally:
        os.close(fd)
    return state.digest()
