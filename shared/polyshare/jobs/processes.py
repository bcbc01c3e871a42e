"""What all processes of a job use together, read from /proc (proc(5)); needs no privilege over them."""

from __future__ import annotations

import os
from dataclasses import dataclass

_PAGE = os.sysconf("SC_PAGE_SIZE")
_HERTZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a job. `memory` sums resident sets, so pages shared between processes count for each."""

    pids: tuple[int, ...] = ()
    tasks: int = 0
    memory: int = 0
    cpu_seconds: float = 0.0
    peak: int = 0

    def then(self, later: Sample) -> Sample:
        """The later sample, with the peak and the CPU time seen so far."""
        return Sample(
            later.pids,
            later.tasks,
            later.memory,
            max(self.cpu_seconds, later.cpu_seconds),
            max(self.peak, later.memory),
        )

    def confirm(self) -> int:
        """Memory with shared pages counted once (PSS); slow, so asked only when the resident sets sum to too much."""
        return sum(_pss(pid) for pid in self.pids)


def sample(first: int) -> Sample:
    """The processes that descend from `first`, itself included."""
    table: dict[int, tuple[int, int, int, int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                    fields = file.read(1024).rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ticks = sum(int(field) for field in fields[11:15])  # utime, stime, and those of children waited for
            table[int(name)] = (int(fields[1]), int(fields[17]), int(fields[21]), ticks)
    children: dict[int, list[int]] = {}
    for pid, (parent, *_) in table.items():
        children.setdefault(parent, []).append(pid)
    members = []
    queue = [first] if first in table else []
    while queue:
        pid = queue.pop()
        members.append(pid)
        queue += children.get(pid, ())
    rows = [table[pid] for pid in members]
    memory = sum(row[2] for row in rows) * _PAGE
    return Sample(tuple(members), sum(row[1] for row in rows), memory, sum(row[3] for row in rows) / _HERTZ, memory)


def shared_memory(first: int | None) -> int:
    """Bytes in the job's /dev/shm, which belong to no process."""
    if first is None:
        return 0
    try:
        here, there = os.stat("/dev/shm"), os.stat(f"/proc/{first}/root/dev/shm")  # noqa: S108
        if here.st_dev == there.st_dev:
            return 0  # not yet in a root of its own
        usage = os.statvfs(f"/proc/{first}/root/dev/shm")
    except OSError:
        return 0
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def unlinked(first: int, devices: frozenset[int]) -> int:
    """Bytes of deleted files on these devices that the job still has open or mapped, so no folder has them."""
    found: dict[tuple[int, int], int] = {}
    for pid in sample(first).pids:
        for folder in ("fd", "map_files"):
            try:
                names = os.listdir(f"/proc/{pid}/{folder}")
            except OSError:
                continue  # gone, or map_files where the kernel keeps it to root
            for name in names:
                try:
                    stat = os.stat(f"/proc/{pid}/{folder}/{name}")
                except OSError:
                    continue
                if stat.st_nlink == 0 and stat.st_dev in devices:
                    found[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return sum(found.values())


def _pss(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0
