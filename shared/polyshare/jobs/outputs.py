"""Reading what hostile code wrote: regular files with one link, opened beneath the folder without following links.

To be called when all the run's processes are gone. Anything that is not such a file fails the job, by its path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from polyshare.errors import Invalid
from polyshare.hashing import Digest, hash_files
from polyshare.manifest import Entry, Manifest, check_path

MOST_FILES = 10_000
DEEPEST = 16  # folders
_BATCH = 64  # files open at once
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Output:
    """A file that may be published. `identity` is device, inode, modification time: it can't be another one later."""

    path: str
    size: int
    identity: tuple[int, int, int]


def collect(folder: Path, *, most_files: int = MOST_FILES, most_bytes: int) -> list[Output]:
    """All files below a folder, in order of their paths' bytes; raises Invalid naming what may not be published."""
    found: list[Output] = []
    fd = os.open(folder, _FOLDER)
    try:
        _walk(fd, "", 1, found, most_files)
    finally:
        os.close(fd)
    size = sum(output.size for output in found)
    if size > most_bytes:
        raise Invalid(f"the outputs have {size} bytes; the limit is {most_bytes}")
    return sorted(found, key=lambda output: output.path.encode())


def manifest(folder: Path, outputs: list[Output]) -> Manifest:
    """Hash outputs; raises Invalid if one changed since, or two are one on a system that ignores case."""
    entries: list[Entry] = []
    for start in range(0, len(outputs), _BATCH):
        batch = outputs[start : start + _BATCH]
        fds = [_open(folder, output) for output in batch]
        try:
            for output, hashed in zip(batch, hash_files([Path(f"/proc/self/fd/{fd}") for fd in fds]), strict=True):
                digest: Digest = hashed.digest
                entries.append(Entry(output.path, digest, hashed.parts if digest.parts > 1 else ()))
        finally:
            for fd in fds:
                os.close(fd)
    return Manifest.of(entries)


@contextmanager
def opened(folder: Path, output: Output) -> Iterator[int]:
    """A descriptor of an output for reading."""
    fd = _open(folder, output)
    try:
        yield fd
    finally:
        os.close(fd)


def read_small(folder: Path, path: str, most: int = 64 * 1024) -> bytes | None:
    """The first bytes of one file, None where there is none that may be read. For reports, never for publishing."""
    try:
        fd = _descend(folder, path)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return None
        return os.read(fd, most)
    finally:
        os.close(fd)


def _walk(fd: int, prefix: str, depth: int, found: list[Output], most_files: int) -> None:
    with os.scandir(fd) as entries:
        listed = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in entries)
    for name, status in listed:
        path = f"{prefix}{name}"
        if stat.S_ISDIR(status.st_mode):
            if depth >= DEEPEST:
                raise Invalid(f"output {path!r} can't be published: folders may be nested {DEEPEST} deep")
            inner = _opened(name, _FOLDER, fd, path)
            try:
                _walk(inner, path + "/", depth + 1, found, most_files)
            finally:
                os.close(inner)
            continue
        _check(path, status)
        os.close(_opened(name, _FILE, fd, path))
        found.append(Output(check_path(path), status.st_size, _identity(status)))
        if len(found) > most_files:
            raise Invalid(f"there are more than {most_files} output files: pack them in an archive")


def _open(folder: Path, output: Output) -> int:
    try:
        fd = _descend(folder, output.path)
    except OSError as error:
        raise Invalid(f"output {output.path!r} can't be read any more: {error.strerror}") from error
    status = os.fstat(fd)
    if _identity(status) != output.identity or status.st_size != output.size:
        os.close(fd)
        raise Invalid(f"output {output.path!r} changed after the run ended")
    _check(output.path, status)
    return fd


def _descend(folder: Path, path: str) -> int:
    *folders, name = path.split("/")
    fd = os.open(folder, _FOLDER)
    for part in folders:
        try:
            inner = os.open(part, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    try:
        return os.open(name, _FILE, dir_fd=fd)
    finally:
        os.close(fd)


def _opened(name: str, flags: int, fd: int, path: str) -> int:
    try:
        return os.open(name, flags, dir_fd=fd)
    except OSError as error:
        raise Invalid(f"output {path!r} can't be published: {error.strerror}") from error


def _check(path: str, status: os.stat_result) -> None:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(status.st_mode))
    if kind is None and status.st_nlink != 1:
        kind = f"one of {status.st_nlink} hard links to a file"
    if kind is not None:
        raise Invalid(f"output {path!r} can't be published: it is {kind}; only plain files are")


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns
