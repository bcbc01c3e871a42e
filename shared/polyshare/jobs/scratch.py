"""Measuring and removing folders that hostile code writes to while we look: by descriptors, never following links."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from polyshare.errors import Unavailable
from polyshare.jobs.job import Limits
from polyshare.jobs.processes import unlinked
from polyshare.jobs.sandbox import Status

DEEPEST = 64  # folders within folders; a descriptor is held for each while walking
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Usage:
    """What is in folders; when `over` is set the count stopped there."""

    size: int = 0
    files: int = 0
    over: tuple[Status, str] | None = None


class Meter:
    """Checks a job's folders against its limits, again and again. `cost` is the seconds that the last check took."""

    def __init__(self, folders: Iterable[Path], limits: Limits) -> None:
        self._folders = tuple(folders)
        self._limits = limits
        self._devices = frozenset(os.stat(folder).st_dev for folder in self._folders)
        self._free = self._room()
        self._next_search = 0.0
        self.cost = 0.0

    def check(self, first: int | None) -> tuple[Status, str] | None:
        """What is over its limit, in words; `first` is the job's first process, None when it has ended."""
        begun = time.monotonic()
        usage = measure(self._folders, self._limits)
        over = usage.over
        if over is None and first is not None and begun >= self._next_search:
            over = self._hidden(first, usage)
        self.cost = time.monotonic() - begun
        return over

    def _hidden(self, first: int, usage: Usage) -> tuple[Status, str] | None:
        room = self._room()
        if room < self._reserve():
            return "disk", "the machine's disk is nearly full: free some space, then try again"
        if self._free - room - usage.size > self._limits.disk_bytes // 8:  # others write too, so look before blaming
            self._next_search = time.monotonic() + 0.5
            size = usage.size + unlinked(first, self._devices)
            if size > self._limits.disk_bytes:
                return "disk", _too_big(self._limits) + ", deleted files that it keeps open included"
        return None

    def _room(self) -> int:
        return min((v.f_bavail * v.f_frsize for v in map(os.statvfs, self._folders)), default=0)

    def _reserve(self) -> int:
        return min(
            (min(256 * 1024**2, v.f_blocks * v.f_frsize // 100) for v in map(os.statvfs, self._folders)), default=0
        )


def measure(folders: Iterable[Path], limits: Limits) -> Usage:
    """Bytes and entries in folders, counted no further than the limits.

    A file counts with its length or its blocks, whichever is more, so that a sparse one is not taken for small.
    """
    usage = Usage()
    for folder in folders:
        fd = os.open(folder, _FOLDER)
        try:
            usage = _below(fd, usage, limits, 1)
        finally:
            os.close(fd)
        if usage.over:
            break
    return usage


def _below(fd: int, usage: Usage, limits: Limits, depth: int) -> Usage:
    size, files = usage.size, usage.files
    folders = []
    with os.scandir(fd) as entries:
        for entry in entries:
            files += 1
            if files > limits.files:
                return Usage(size, files, ("files", f"it made more than {limits.files} files and folders"))
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # the job removed it meanwhile
            if stat.S_ISDIR(status.st_mode):
                folders.append(entry.name)
            size += max(status.st_size, status.st_blocks * 512)
            if size >= limits.disk_bytes:  # no file can pass it, so one of this size was cut off
                return Usage(size, files, ("disk", _too_big(limits)))
    for name in folders:
        if depth >= DEEPEST:
            return Usage(size, files, ("files", f"its folders are nested deeper than {DEEPEST}"))
        try:
            inner = os.open(name, _FOLDER, dir_fd=fd)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            continue
        except PermissionError:
            return Usage(size, files, ("files", f"it made a folder that nobody can look into: {name[:100]!r}"))
        try:
            usage = _below(inner, Usage(size, files), limits, depth + 1)
        finally:
            os.close(inner)
        if usage.over:
            return usage
        size, files = usage.size, usage.files
    return Usage(size, files)


def remove(folder: Path) -> None:
    """Remove a folder whatever is in it: unreadable folders, a million files, nesting beyond the longest path.

    Raises errors.Unavailable if it is still there after a minute.
    """
    for command in (["rm", "-rf", "--", str(folder)], ["chmod", "-R", "u+rwX", "--", str(folder)]) * 2:
        try:
            subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"removing {folder} took more than a minute: remove it by hand") from error
        if not os.path.lexists(folder):
            return
    raise Unavailable(f"{folder} could not be removed: look who owns it and remove it by hand")


def _too_big(limits: Limits) -> str:
    return f"it wrote more than its limit of {limits.disk_bytes / 1024**2:.0f} MiB"
