"""Bringing a job's inputs and taking its outputs away, part by part, each part verified, in bounded memory.

URLs are asked for a batch at a time, just before they are used; a batch that fails is done again with new ones.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from polyshare.errors import Mismatch
from polyshare.hashing import Digest, part_count, part_range
from polyshare.jobs import outputs
from polyshare.jobs.remote import MOST_URLS, Remote, Signed
from polyshare.manifest import Entry, check_path

_AT_ONCE = 4  # transfers
_BATCH_BYTES = 64 * 1024 * 1024  # held in memory
_BATCH_PARTS = 256

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Part:
    file: int  # index
    number: int
    start: int
    length: int


def fetch(remote: Remote, files: Sequence[tuple[str, Entry, Path]]) -> None:
    """Download (channel, entry) to a path each; raises Mismatch if the bytes are not what the digest says."""
    for _, _, path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o644)

    def get(part: _Part, signed: Signed) -> None:
        channel, entry, path = files[part.file]
        what = f"{channel}/{entry.path}"
        data = remote.read(signed, part.start, part.length, entry.size, what)
        if hashlib.sha256(data).digest() != _part_digest(entry, part):
            raise Mismatch(f"input {what} is not what was registered: part {part.number} has another digest")
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(fd, memoryview(data)[written:], part.start + written)
        finally:
            os.close(fd)

    names = [(channel, entry.path) for channel, entry, _ in files]

    def bring(batch: list[_Part]) -> None:
        _each(batch, _input_urls(remote, batch, names), get)

    for batch in _batches(_parts(entry.size for _, entry, _ in files)):
        remote.patiently(partial(bring, batch))


def publish(remote: Remote, folder: Path, found: Sequence[outputs.Output], entries: Sequence[Entry]) -> None:
    """Upload outputs that were collected and hashed."""
    by_path = {output.path: output for output in found}

    def put(part: _Part, signed: Signed | None) -> None:
        entry = entries[part.file]
        if signed is not None:
            with outputs.opened(folder, by_path[entry.path]) as fd:
                data = _read(fd, part)
            remote.write(signed, data, entry.path)

    def take(batch: list[_Part]) -> None:
        files = [(entries[part.file], part) for part in batch]
        asked = [_asked(entry.path, entry.size, part.number, _part_digest(entry, part)) for entry, part in files]
        _each(batch, remote.outputs(asked), put)

    for batch in _batches(_parts(entry.size for entry in entries)):
        remote.patiently(partial(take, batch))


def copy(remote: Remote, channel: str, files: Sequence[tuple[str, int]], stated: Mapping[str, str] = {}) -> list[Entry]:
    """Take (path, size) of a channel to the outputs, reading each byte once. Raises Conflict if an object changed.

    `stated` has what somebody says is the sha256 of all bytes of a path: one more pass over those only. Raises
    Mismatch if it is another. (Where a digest of parts was stated, who takes the outputs compares it.)
    """
    for path, _ in files:
        check_path(path)
    digests: list[list[bytes]] = [[] for _ in files]
    whole = {path: hashlib.sha256() for path, text in stated.items() if text.startswith("sha256:")}
    names = [(channel, path) for path, _ in files]

    def get(part: _Part, signed: Signed) -> bytes:
        path, size = files[part.file]
        return remote.read(signed, part.start, part.length, size, path)

    def put(item: tuple[_Part, bytes], signed: Signed | None) -> None:
        if signed is not None:
            remote.write(signed, item[1], files[item[0].file][0])

    def move(batch: list[_Part]) -> list[tuple[bytes, bytes]]:
        data = _each(batch, _input_urls(remote, batch, names), get)
        hashes = [hashlib.sha256(piece).digest() for piece in data]
        asked = [_asked(*files[part.file], part.number, digest) for part, digest in zip(batch, hashes, strict=True)]
        _each(list(zip(batch, data, strict=True)), remote.outputs(asked), put)
        return [(digest, piece if whole else b"") for digest, piece in zip(hashes, data, strict=True)]

    for batch in _batches(_parts(size for _, size in files)):
        for part, (digest, piece) in zip(batch, remote.patiently(partial(move, batch)), strict=True):
            digests[part.file].append(digest)
            if (state := whole.get(files[part.file][0])) is not None:
                state.update(piece)
    for path, state in whole.items():
        if stated[path] != f"sha256:{state.hexdigest()}":
            raise Mismatch(f"{path} has sha256:{state.hexdigest()}, but {stated[path]} was announced")
    entries = []
    for (path, size), parts in zip(files, digests, strict=True):
        entries.append(Entry(path, Digest.of_parts(size, parts), tuple(parts) if len(parts) > 1 else ()))
    return entries


def _parts(sizes: Iterable[int]) -> Iterator[_Part]:
    for index, size in enumerate(sizes):
        for number in range(1, part_count(size) + 1):
            yield _Part(index, number, *part_range(size, number))


def _batches(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    batch: list[_Part] = []
    for part in parts:
        if batch and (len(batch) >= _BATCH_PARTS or sum(p.length for p in batch) + part.length > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(part)
    if batch:
        yield batch


def _each(items: Sequence[T], signed: Sequence[Any], act: Callable[[T, Any], R]) -> list[R]:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="transfer") as pool:
        return list(pool.map(act, items, signed))


def _input_urls(remote: Remote, batch: list[_Part], names: Sequence[tuple[str, str]]) -> list[Signed]:
    """A URL for each part's file, asked once a file."""
    wanted = sorted({part.file for part in batch})
    assert len(wanted) <= MOST_URLS
    found = dict(zip(wanted, remote.inputs([names[index] for index in wanted]), strict=True))
    return [found[part.file] for part in batch]


def _asked(path: str, size: int, number: int, digest: bytes) -> dict[str, Any]:
    return {"path": path, "size": size, "part": number, "sha256": digest.hex()}


def _part_digest(entry: Entry, part: _Part) -> bytes:
    return entry.parts[part.number - 1] if entry.digest.parts > 1 else entry.digest.sha256


def _read(fd: int, part: _Part) -> bytes:
    data = bytearray()
    while len(data) < part.length:
        piece = os.pread(fd, part.length - len(data), part.start + len(data))
        if not piece:
            raise Mismatch("an output became shorter while it was uploaded")
        data += piece
    return bytes(data)
